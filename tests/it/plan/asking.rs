//! Plans of sweeps that ask machines: who is compared with whom, on what, and what waits for what.

use std::collections::{BTreeMap, BTreeSet};

use jobctl::job::task::Task;
use jobctl::job::task::asking::{Judge, Words};
use jobctl::plan::{Plan, plan};
use jobctl::sweep::Inventory;

use super::making::resources;
use super::{check_laws, inventory, parse};

const PHOTOS: &str = "name = 't'\n[[images]]\nname = 'photos'\npath = 'p'\n";
const SOFT: &str = "[[damage]]\nname = 'soft'\nof = 'photos'\nkind = 'blur'\nsigma = [1, 2]\n";
const MADE: &str =
    "[[generate]]\nname = 'sd3'\nmodel = ['one', 'two']\nprompts = 'p.jsonl'\nsize = 2048\nseed = [0, 1]\n";

fn judge(of: &str, keys: &str) -> String {
    format!("[[judge]]\nname = 'gpt'\nof = {of}\nbudget = 1\n{keys}\n")
}

/// Of two files, `a` and `b`, captioned.
fn planned(text: &str) -> anyhow::Result<Plan> {
    let sweep = parse(text);
    let mut inventory: Inventory = inventory(&[&[("a", "1"), ("b", "2")]]);
    inventory.blocks[0].iter_mut().for_each(|it| it.caption = Some(format!("caption of {}", it.sample)));
    if !text.contains("[[images]]") {
        inventory.blocks.clear();
    }
    resources(&sweep, &mut inventory);
    let plan = plan(&sweep, &inventory)?;
    check_laws(&plan);
    Ok(plan)
}

fn judges(plan: &Plan) -> Vec<&Judge> {
    plan.jobs
        .iter()
        .filter_map(|it| match &it.task {
            Task::Judge(task) => Some(&**task),
            _ => None,
        })
        .collect()
}

/// How many questions there are about each pair of sources.
fn pairs(plan: &Plan) -> BTreeMap<(&str, &str), usize> {
    let names: BTreeMap<_, _> = plan.cells.iter().map(|it| (it.key, plan.sources[it.source].name.as_str())).collect();
    let mut pairs = BTreeMap::new();
    for it in judges(plan) {
        let mut pair = [names[&it.first.key()], names[&it.second.key()]];
        pair.sort_unstable();
        *pairs.entry((pair[0], pair[1])).or_default() += 1;
    }
    pairs
}

#[test]
fn every_two_sources_are_compared_sample_by_sample_in_both_orders() {
    let text = format!("{PHOTOS}{SOFT}{}", judge("['photos', 'soft']", ""));
    let plan = planned(&text).unwrap();
    let expected = [("photos", "soft sigma=1"), ("photos", "soft sigma=2"), ("soft sigma=1", "soft sigma=2")];
    assert_eq!(pairs(&plan), expected.into_iter().map(|it| (it, 4)).collect());
    let orders: BTreeSet<bool> = judges(&plan).iter().map(|it| it.turned).collect();
    assert_eq!(orders.len(), 2);
    let words: BTreeSet<_> = judges(&plan).iter().map(|it| format!("{:?}", it.words)).collect();
    assert_eq!(words.len(), 2, "each sample has its caption: {words:?}");
    assert_eq!(plan.asking.len(), 1);
    assert_eq!(plan.asking[0].requests.len(), 12);
    // A pair is the same whichever way it is named.
    let turned = planned(&text.replace("['photos', 'soft']", "['soft', 'photos']")).unwrap();
    let keys = |plan: &Plan| plan.jobs.iter().map(|it| it.key).collect::<BTreeSet<_>>();
    assert_eq!(keys(&turned), keys(&plan));
    // In one order, which a pair draws.
    let once = planned(&format!("{PHOTOS}{SOFT}{}", judge("['photos', 'soft']", "both_orders = false"))).unwrap();
    assert_eq!(judges(&once).len(), 6);
    assert!(keys(&once).is_subset(&keys(&plan)));
}

#[test]
fn generated_pictures_meet_those_of_their_prompt_and_seed_and_wait_for_both() {
    let plan = planned(&format!("name = 't'\n{MADE}{}", judge("['sd3']", ""))).unwrap();
    let expected = [0, 1].map(|seed| {
        let name = |model: &str| {
            plan.sources
                .iter()
                .map(|it| it.name.as_str())
                .find(|it| it.contains(model) && it.ends_with(&format!("seed={seed}")))
                .unwrap()
        };
        (name("one"), name("two"))
    });
    assert_eq!(pairs(&plan), expected.into_iter().map(|it| (it, 4)).collect());
    for (idx, job) in plan.jobs.iter().enumerate() {
        let Task::Judge(task) = &job.task else { continue };
        let parents: BTreeSet<_> =
            plan.edges.iter().filter(|it| it.child == idx).map(|it| plan.jobs[it.parent].key).collect();
        assert_eq!(parents, BTreeSet::from([task.first.content, task.second.content]));
        assert!(matches!(&task.words, Some(Words::Text(it)) if it.contains(" of p.jsonl")), "{:?}", task.words);
    }
    // Photographs are compared with every seed.
    let text = format!("{PHOTOS}{MADE}{}", judge("['photos', 'sd3']", "aspects = ['fine_details']"));
    assert_eq!(pairs(&planned(&text).unwrap()).len(), 4 + 2);
}

#[test]
fn crops_are_of_equal_places_and_need_pictures_of_one_size() {
    let text = format!("{PHOTOS}{SOFT}{}", judge("['photos', 'soft']", "crops = 4"));
    let plan = planned(&text).unwrap();
    let cropped: Vec<_> = judges(&plan).into_iter().filter(|it| it.crop.is_some()).collect();
    assert_eq!(cropped.len(), 3 * 2 * 4 * 2);
    assert!(cropped.iter().all(|it| it.aspects.len() == 1 && it.words.is_none()));
    let text = format!("{PHOTOS}{MADE}{}", judge("['photos', 'sd3']", "crops = 4"));
    let error = planned(&text).unwrap_err().to_string();
    assert!(error.contains("pictures of one size") && error.contains("2048×2048"), "{error}");
}

#[test]
fn captions_are_prompts_and_words_that_others_wait_for() {
    let caption = "[[caption]]\nname = 'gpt4o'\nof = 'photos'\nbudget = 1\n";
    let made = MADE.replace("'p.jsonl'", "'gpt4o'").replace("['one', 'two']", "'one'");
    let text = format!("{PHOTOS}{caption}{made}guidance = 4\nnegative = 'no'\n");
    let plan = planned(&text).unwrap();
    let counts = plan.counts();
    assert_eq!((counts["caption"], counts["encode"], counts["denoise"]), (2, 3, 4));
    assert_eq!(plan.asking[0].requests.len(), 2);
    for (idx, job) in plan.jobs.iter().enumerate() {
        let Task::Encode(task) = &job.task else { continue };
        let parents: Vec<_> =
            plan.edges.iter().filter(|it| it.child == idx).map(|it| plan.jobs[it.parent].key).collect();
        assert_eq!(parents, task.caption.into_iter().collect::<Vec<_>>(), "what is not to be seen needs no caption");
        assert_eq!(task.caption.is_some(), task.prompt.is_empty());
    }
    let samples: BTreeSet<_> = plan.cells.iter().map(|it| it.sample.as_str()).collect();
    assert_eq!(samples, BTreeSet::from(["a", "b"]), "a generated picture is the sample of the photograph");
    // Limited, it makes fewer pictures.
    let limited = planned(&text.replace("seed = [0, 1]", "seed = [0, 1]\nlimit = 1")).unwrap();
    assert_eq!(limited.counts()["denoise"], 2);
}

#[test]
fn what_cannot_be_asked_is_told() {
    let fails = |text: &str, what: &str| {
        let error = format!("{:#}", planned(text).unwrap_err());
        assert!(error.contains(what), "{error}");
    };
    fails(&format!("{PHOTOS}{}", judge("['photos']", "")), "[[judge]] `gpt` compares nothing");
    // Made of two prompts for one sample.
    let other = MADE.replace("'sd3'", "'other'").replace("'p.jsonl'", "'q.jsonl'").replace("['one', 'two']", "'three'");
    let both = |keys: &str| format!("name = 't'\n{MADE}{other}{}", judge("['sd3', 'other']", keys));
    fails(&both(""), "they were made of two prompts");
    let plan = planned(&both("aspects = ['fine_details']")).unwrap();
    assert!(judges(&plan).iter().any(|it| it.words.is_none()));
    // Nobody says what is to be seen.
    let sweep = parse(&format!("{PHOTOS}{SOFT}{}", judge("['photos', 'soft']", "")));
    let error = plan_of(&sweep).unwrap_err().to_string();
    assert!(error.contains("nobody says what they show") && error.contains("sample `a`"), "{error}");
}

fn plan_of(sweep: &jobctl::sweep::Sweep) -> anyhow::Result<Plan> {
    plan(sweep, &inventory(&[&[("a", "1")]]))
}

#[test]
fn pace_prices_and_budgets_are_in_no_key() {
    let text =
        |keys: &str| format!("{PHOTOS}{SOFT}{}", judge("['photos', 'soft']", keys).replacen("budget = 1\n", "", 1));
    let one = planned(&text("budget = 1")).unwrap();
    let keys = "budget = 9\nrequests_per_minute = 3\ntokens_per_minute = 1000\nprices = { input = 1, output = 2 }\n\
                picture_tokens = { base = 576 }";
    let other = planned(&text(keys)).unwrap();
    assert_eq!(one.key(), other.key());
    assert_ne!(one.asking, other.asking);
    assert_ne!(one.key(), planned(&text("budget = 1\nmodel = 'gpt-4o-mini'")).unwrap().key());
}

#[test]
fn a_picture_counts_as_the_sweep_says_else_as_the_model_that_is_known() {
    let estimate = |keys: &str| {
        let plan = planned(&format!("{PHOTOS}{SOFT}{}", judge("['photos', 'soft']", keys))).unwrap();
        let block = &plan.asking[0];
        (block.requests[0].1.input, block.pictures_assumed)
    };
    let words = estimate("picture_tokens = { base = 0 }");
    assert!(words.0 > 0 && !words.1);
    // Of an unknown size each is taken for 2048×2048: four tiles of OpenAI's.
    let known = |base: u32, tile: u32| words.0 + 2 * (base + 4 * tile);
    assert_eq!(estimate(""), (known(85, 170), false));
    assert_eq!(estimate("model = 'gpt-4o-mini'"), (known(2833, 5667), false));
    let own = "model = 'qwen2.5-vl'\nprices = { input = 0, output = 0 }";
    assert_eq!(estimate(own), (known(85, 170), true), "said to be assumed");
    assert_eq!(estimate(&format!("{own}\npicture_tokens = {{ base = 1296 }}")), (known(1296, 0), false));
    assert_eq!(estimate("picture_tokens = { base = 10, tile = 20 }"), (known(10, 20), false));
}
