//! What `[[caption]]` and `[[judge]]` blocks come to: jobs that ask machines about the sweep's pictures.

mod pairs;

use std::collections::HashMap;

use anyhow::{Context, bail, ensure};

use self::pairs::{crops, sources};
use super::build::place;
use super::expand::Recipe;
use super::making::Made;
use super::{Asking, Edge, EdgeKind, Job, Plan};
use crate::job::Hash;
use crate::job::task::asking::{Aspect, Caption, Crop, Judge, Words};
use crate::job::task::{Picture, Step, Task};
use crate::judge::cost::{TOKENS_OF_CAPTION, TOKENS_OF_VERDICT, Tokens};
use crate::judge::prompts::question_hash;
use crate::judge::request::Texts;
use crate::sweep::asking::{Judge as JudgeBlock, Terms};
use crate::sweep::{Inventory, Sweep};

/// A picture that is captioned.
pub(super) struct Captioned {
    /// The picture's sample.
    pub(super) sample: String,
    /// The job that captions it.
    pub(super) job: Job,
    tokens: Tokens,
}

/// What is to be captioned, block by block.
pub(super) fn captions(sweep: &Sweep, inventory: &Inventory) -> anyhow::Result<Vec<Vec<Captioned>>> {
    let captioned = |block: &crate::sweep::asking::Caption| {
        let images =
            sweep.images.get(block.of).with_context(|| format!("`{}` is of no [[images]] block", block.name))?;
        let steps: Vec<Step> = images.crop.map(|size| Step::Crop { size }).into_iter().collect();
        let files = inventory.blocks[block.of].iter().map(|file| {
            let picture = Picture::of_file(file.content, steps.clone());
            let subject = picture.key();
            let task = Caption { picture, question: block.question.clone(), manner: block.terms.manner.clone() };
            let size = file.size.map_or(UNKNOWN, |it| size_after(it, &steps));
            let input = Texts::of_caption(&task).input_tokens(&task.manner, block.terms.pictures, &[size]);
            let job = job(Task::Caption(task), subject, &block.terms);
            Captioned { sample: file.sample.clone(), job, tokens: Tokens { input, output: TOKENS_OF_CAPTION } }
        });
        Ok(files.collect())
    };
    sweep.caption.iter().map(captioned).collect()
}

/// Width and height of two pictures that are shown.
type Sizes = [(u32, u32); 2];

/// The size that is assumed of pictures whose header cannot be read.
const UNKNOWN: (u32, u32) = (2048, 2048);

fn job(task: Task, subject: Hash, terms: &Terms) -> Job {
    Job {
        key: task.key(),
        task,
        subject: Some(subject),
        reference: None,
        affinity: None,
        megapixels: 0.0,
        needs: terms.needs.clone(),
    }
}

fn asking(name: &str, kind: &'static str, terms: &Terms, requests: Vec<(Hash, Tokens)>) -> Asking {
    Asking {
        name: name.to_owned(),
        kind,
        model: terms.manner.model.clone(),
        requests_per_minute: terms.requests_per_minute,
        tokens_per_minute: terms.tokens_per_minute,
        budget: terms.budget,
        prices: terms.prices,
        pictures: terms.pictures,
        pictures_assumed: terms.pictures_assumed,
        assumed: terms.assumed,
        batch: terms.batch,
        requests,
    }
}

/// Places the jobs that caption, before those that make pictures of what they write.
pub(super) fn place_captions(
    sweep: &Sweep,
    captions: Vec<Vec<Captioned>>,
    plan: &mut Plan,
    by_key: &mut HashMap<Hash, usize>,
) {
    for (block, captions) in sweep.caption.iter().zip(captions) {
        let requests = captions.iter().map(|it| (it.job.key, it.tokens)).collect();
        for it in captions {
            place(&mut plan.jobs, by_key, it.job);
        }
        plan.asking.push(asking(&block.name, "caption", &block.terms, requests));
    }
}

/// Lets what encodes a caption wait for it.
pub(super) fn join_prompts(plan: &mut Plan, by_key: &HashMap<Hash, usize>) {
    for (child, job) in plan.jobs.iter().enumerate() {
        if let Task::Encode(task) = &job.task
            && let Some(parent) = task.caption.and_then(|it| by_key.get(&it))
        {
            plan.edges.push(Edge { parent: *parent, child, kind: EdgeKind::Needs });
        }
    }
}

/// A size after a recipe's steps.
pub(super) fn size_after(size: (u32, u32), steps: &[Step]) -> (u32, u32) {
    steps.iter().fold(size, |(width, height), step| match step {
        Step::Crop { size } => (width.min(*size), height.min(*size)),
        Step::Trim { unit } => (width / unit * unit, height / unit * unit),
        Step::Patch { width, height, .. } => (*width, *height),
        Step::Blur { .. } | Step::Resize { .. } | Step::Jpeg { .. } | Step::Noise { .. } => (width, height),
    })
}

/// What judges see of the sweep, source by source in the plan's order.
pub(super) struct Looks {
    /// One for each source that has pictures.
    sources: Vec<Source>,
    /// The keys of captioning jobs by block and sample.
    captions: Vec<HashMap<String, Hash>>,
}

/// A source as judges see it.
struct Source {
    block: String,
    name: String,
    /// Of generated pictures: those of other seeds are not compared with them.
    seed: Option<u64>,
    /// Of those that a model makes: its place among them.
    made: Option<usize>,
    /// The block of images that it comes from.
    root: Option<usize>,
    cells: Vec<Look>,
}

/// One picture as judges see it.
struct Look {
    sample: String,
    picture: Picture,
    size: Option<(u32, u32)>,
    words: Option<Words>,
}

impl Looks {
    /// Collects them. `made` stand behind the recipes, as their sources do in the plan.
    pub(super) fn new(sweep: &Sweep, inventory: &Inventory, recipes: &[Recipe], made: &[Made]) -> Self {
        let scored = recipes.iter().map(|recipe| Source {
            block: recipe.block.clone(),
            name: recipe.source.name.clone(),
            seed: None,
            made: None,
            root: Some(recipe.root),
            cells: inventory.blocks[recipe.root]
                .iter()
                .map(|file| Look {
                    sample: file.sample.clone(),
                    picture: Picture::of_file(file.content, recipe.steps.clone()),
                    size: file.size.map(|it| size_after(it, &recipe.steps)),
                    words: file.caption.clone().map(Words::Text),
                })
                .collect(),
        });
        let made = made.iter().enumerate().map(|(idx, made)| Source {
            block: made.block.clone(),
            name: made.source.name.clone(),
            seed: match made.source.making {
                Some(super::Making::Generated { seed, .. }) => Some(seed),
                _ => None,
            },
            made: Some(idx),
            root: None,
            cells: made
                .cells
                .iter()
                .map(|it| Look {
                    sample: it.cell.sample.clone(),
                    picture: it.picture(),
                    size: it.size,
                    words: it.words.clone(),
                })
                .collect(),
        });
        let captions = captions(sweep, inventory).unwrap_or_default();
        let by_sample = |it: Vec<Captioned>| it.into_iter().map(|it| (it.sample, it.job.key)).collect();
        Self { sources: scored.chain(made).collect(), captions: captions.into_iter().map(by_sample).collect() }
    }
}

/// Places the jobs of every `[[judge]]` block. `makers` turns the place of what a model makes into its job.
///
/// # Errors
/// A block that compares nothing; pictures without a prompt, or with two, where adherence to it is asked for; crops of
/// pictures of unequal size.
pub(super) fn judge(
    sweep: &Sweep,
    looks: &Looks,
    makers: &[Vec<usize>],
    plan: &mut Plan,
    by_key: &mut HashMap<Hash, usize>,
) -> anyhow::Result<()> {
    for block in &sweep.judge {
        let mut requests = Vec::new();
        let pairs = sources(&looks.sources, &block.of);
        for (one, other) in pairs {
            let at: HashMap<&str, usize> =
                other.cells.iter().enumerate().map(|(idx, it)| (it.sample.as_str(), idx)).collect();
            for (idx, first) in one.cells.iter().enumerate() {
                let Some(&other_idx) = at.get(first.sample.as_str()) else { continue };
                let second = &other.cells[other_idx];
                if first.picture == second.picture {
                    continue;
                }
                let maker = |source: &Source, idx: usize| source.made.map(|made| makers[made][idx]);
                let parents: Vec<usize> = maker(one, idx).into_iter().chain(maker(other, other_idx)).collect();
                for (task, size) in questions(sweep, block, looks, [one, other], [first, second])? {
                    let output = TOKENS_OF_VERDICT * u32::try_from(task.aspects.len())?;
                    let input = Texts::of_judge(&task).input_tokens(&task.manner, block.terms.pictures, &size);
                    let caption = match &task.words {
                        Some(Words::Caption(key)) => by_key.get(key).copied(),
                        _ => None,
                    };
                    let subject = task.first.key();
                    let job = job(Task::Judge(Box::new(task)), subject, &block.terms);
                    requests.push((job.key, Tokens { input, output }));
                    let child = place(&mut plan.jobs, by_key, job);
                    let parents = parents.iter().copied().chain(caption);
                    plan.edges.extend(parents.map(|parent| Edge { parent, child, kind: EdgeKind::Needs }));
                }
            }
        }
        ensure!(
            !requests.is_empty(),
            "[[judge]] `{}` compares nothing: no two of {} have a sample of one name",
            block.name,
            block.of.join(", ")
        );
        plan.asking.push(asking(&block.name, "judge", &block.terms, requests));
    }
    Ok(())
}

/// What is asked about two pictures of one sample, each question with the sizes of what is shown.
fn questions(
    sweep: &Sweep,
    block: &JudgeBlock,
    looks: &Looks,
    sources: [&Source; 2],
    pair: [&Look; 2],
) -> anyhow::Result<Vec<(Judge, Sizes)>> {
    let names = || format!("`{}` and `{}`, sample `{}`", sources[0].name, sources[1].name, pair[0].sample);
    let words = words(sweep, block, looks, sources, pair);
    let words = match words {
        Ok(words) => words,
        Err(error) if block.aspects.contains(&Aspect::PromptAdherence) => {
            bail!("[[judge]] `{}`: {}: {error}", block.name, names())
        }
        Err(_) => None,
    };
    let mut pair = pair;
    // The same pair whichever way a sweep names it.
    if pair[0].picture.key() > pair[1].picture.key() {
        pair.reverse();
    }
    let task = |aspects: &[Aspect], words: &Option<Words>, crop: Option<Crop>, turned: bool| Judge {
        first: pair[0].picture.clone(),
        second: pair[1].picture.clone(),
        turned,
        words: words.clone(),
        aspects: aspects.to_vec(),
        question: question_hash(aspects, words.is_some()),
        crop,
        manner: block.terms.manner.clone(),
    };
    let drawn = Hash::of_value(&("order", pair[0].picture.key(), pair[1].picture.key())).0[0] & 1 == 1;
    let orders = if block.both_orders { vec![false, true] } else { vec![drawn] };
    let sizes = pair.map(|it| it.size.unwrap_or(UNKNOWN));
    let mut tasks: Vec<(Judge, Sizes)> =
        orders.iter().map(|it| (task(&block.aspects, &words, None, *it), sizes)).collect();
    if block.crops > 0 {
        // A picture whose header cannot be read fails where it is shown whole.
        let (Some(size), Some(other)) = (pair[0].size, pair[1].size) else { return Ok(tasks) };
        ensure!(
            size == other,
            "[[judge]] `{}`: {}: `crops` needs pictures of one size, and these have {}×{} and {}×{}",
            block.name,
            names(),
            size.0,
            size.1,
            other.0,
            other.1
        );
        for crop in crops(block.crops, size) {
            let shown = (crop.width, crop.height);
            let ask = |turned: &bool| (task(&[Aspect::FineDetails], &None, Some(crop), *turned), [shown; 2]);
            tasks.extend(orders.iter().map(ask));
        }
    }
    Ok(tasks)
}

/// What both pictures ought to show: the prompt of what was generated, else a caption of the other.
fn words(
    sweep: &Sweep,
    block: &JudgeBlock,
    looks: &Looks,
    sources: [&Source; 2],
    pair: [&Look; 2],
) -> Result<Option<Words>, String> {
    let prompts: Vec<&Words> =
        sources.iter().zip(pair).filter(|it| it.0.seed.is_some()).filter_map(|it| it.1.words.as_ref()).collect();
    match prompts.as_slice() {
        [one, other] if one != other => {
            return Err("they were made of two prompts: take `prompt_adherence` out of `aspects`".to_owned());
        }
        [one, ..] => return Ok(Some((*one).clone())),
        [] => {}
    }
    if let Some(known) = pair.iter().find_map(|it| it.words.clone()) {
        return Ok(Some(known));
    }
    let machine = block.captions.and_then(|idx| {
        let of = sweep.caption.get(idx)?.of;
        let from = sources.iter().zip(pair).find(|it| it.0.root == Some(of))?;
        looks.captions.get(idx)?.get(&from.1.sample).copied()
    });
    machine.map(|it| Some(Words::Caption(it))).ok_or_else(|| {
        "nobody says what they show: give the [[images]] `captions`, add a [[caption]] block and name it as `captions`, or \
         take `prompt_adherence` out of `aspects`"
            .to_owned()
    })
}
