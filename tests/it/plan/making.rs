//! Plans of sweeps that make pictures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jobctl::job::Hash;
use jobctl::job::task::making::Part;
use jobctl::job::task::{Origin, Step, Task};
use jobctl::labels::Area;
use jobctl::plan::{EdgeKind, Plan, plan};
use jobctl::sweep::inventory::{Data, DataFile};
use jobctl::sweep::making::Prompts;
use jobctl::sweep::networks::NetworkFiles;
use jobctl::sweep::packages::PackageFiles;
use jobctl::sweep::patches::PatchBox;
use jobctl::sweep::prompts::Prompt;
use jobctl::sweep::{Inventory, Sweep};

use super::{check_laws, inventory, parse};

/// Makes up the prompts, packages and networks that a sweep names: each of its own, autoencoders of factor 16.
pub fn resources(sweep: &Sweep, inventory: &mut Inventory) {
    let models = sweep.generate.iter().map(|it| &it.model).chain(sweep.reconstruct.iter().map(|it| &it.model));
    let bases = sweep.finetune.iter().flat_map(|it| &it.points).map(|it| &it.model);
    for model in models.flat_map(|it| &it.values).chain(bases).map(|it| sweep.root(it).to_owned()) {
        let model = &model;
        let part = |it: Part| (it, Hash::of(format!("{model} {}", it.word()).as_bytes()));
        let parts = Part::ALL.into_iter().map(part).collect();
        let package =
            PackageFiles { root: PathBuf::from("/models").join(model), factor: 16, unit: 32, parts, files: Vec::new() };
        inventory.packages.insert(model.clone(), package);
    }
    for it in sweep.evaluate.networks.iter().chain(sweep.finetune.iter().flat_map(|it| &it.networks)) {
        let (root, hash) = (PathBuf::from("/models").join(&it.package), Hash::of(it.package.as_bytes()));
        inventory.networks.insert(it.package.clone(), NetworkFiles { root, hash, files: Vec::new() });
    }
    for block in &sweep.finetune {
        let file = |idx: u32| DataFile {
            path: PathBuf::from(format!("/{}/{idx}.jpg", block.data)),
            content: Hash::of(format!("{} {idx}", block.data).as_bytes()),
            size: (5000, 5000),
            caption: format!("kind {}", idx % 7),
        };
        inventory.data.push(Data { pictures: (0..150).map(file).collect(), left_out: Vec::new() });
    }
    for block in &sweep.generate {
        let texts = match &block.prompts {
            Prompts::Inline(texts) => texts.clone(),
            Prompts::Caption(_) => Vec::new(),
            Prompts::File(path) => vec![format!("the first of {path}"), format!("the second of {path}")],
        };
        let name = |idx: usize| if idx == 0 { "a".to_owned() } else { format!("p{:04}", idx + 1) };
        let prompt = |(idx, text)| Prompt { sample: name(idx), text };
        inventory.prompts.push(texts.into_iter().enumerate().map(prompt).collect());
    }
}

fn planned(text: &str, blocks: &[&[(&str, &str)]]) -> (Plan, Inventory) {
    let sweep = parse(text);
    let mut inventory = inventory(blocks);
    resources(&sweep, &mut inventory);
    let plan = plan(&sweep, &inventory).unwrap();
    check_laws(&plan);
    assert_eq!(plan.cells.len() as u64, sweep.n_cells(&inventory));
    (plan, inventory)
}

#[test]
fn patches_of_generated_pictures_wait_for_them() {
    let text = "name = \"t\"\n[[generate]]\nname = \"g\"\nmodel = \"m\"\nprompts = [\"one\", \"two\"]\nsize = 64\n\
        seed = [0, 1]\n[[patches]]\nname = \"parts\"\nof = \"g\"\nboxes = \"boxes.csv\"\n[evaluate]\nmetrics = [\"glcm_score\"]\n";
    let sweep = parse(text);
    let mut inventory = Inventory::default();
    resources(&sweep, &mut inventory);
    let part = |line: u64, sample: &str, source: Option<&str>, x: u32| PatchBox {
        line,
        sample: sample.to_owned(),
        source: source.map(str::to_owned),
        area: Area { x, y: 8, width: 32, height: 16 },
    };
    inventory.patches = vec![vec![part(2, "a", None, 0), part(3, "p0002", Some("g seed=1"), 32)]];
    let found = plan(&sweep, &inventory).unwrap();
    check_laws(&found);
    let names: Vec<&str> = found.sources.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["g seed=0", "g seed=1", "parts of g seed=0", "parts of g seed=1"]);
    let patches: Vec<_> = found.cells.iter().filter(|it| it.source >= 2).collect();
    let samples: Vec<_> = patches.iter().map(|it| (it.source, it.sample.as_str())).collect();
    assert_eq!(samples, [(2, "a 32x16+0+8"), (3, "a 32x16+0+8"), (3, "p0002 32x16+32+8")]);
    for it in patches {
        let job = it.jobs[0];
        let Task::Evaluate(task) = &found.jobs[job].task else { panic!("a patch is scored") };
        let parents: Vec<&Task> =
            found.edges.iter().filter(|it| it.child == job).map(|it| &found.jobs[it.parent].task).collect();
        assert!(matches!(parents.as_slice(), [made @ Task::Decode(_)] if made.key() == task.picture.content));
        assert_eq!(task.picture.origin, Origin::Job);
    }
    // A row that would be left out is refused, each for what it is.
    for (wrong, word) in [
        (part(4, "b", None, 0), "line 4: `g` has no sample `b`"),
        (part(5, "a", Some("g seed=2"), 0), "`g` has no source `g seed=2`; did you mean `g seed="),
        (part(6, "a", None, 33), "line 6: 32×16 pixels at 33, 8 lie outside of `a`, which is 64×64"),
    ] {
        inventory.patches[0].push(wrong);
        let error = plan(&sweep, &inventory).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        inventory.patches[0].pop();
    }
}

fn counts(plan: &Plan) -> Vec<(&'static str, usize)> {
    plan.counts().into_iter().collect()
}

/// The plan as text: jobs with their parents, sources with their cells.
fn drawing(plan: &Plan) -> String {
    let mut text = String::new();
    for (idx, job) in plan.jobs.iter().enumerate() {
        let parents: Vec<String> = plan
            .edges
            .iter()
            .filter(|it| it.child == idx)
            .map(|it| format!("{}{}", it.parent, if it.kind == EdgeKind::Needs { "" } else { "?" }))
            .collect();
        let lane = if job.task.needs_cuda() { " cuda" } else { "" };
        text += &format!("{idx} {} {}{lane} [{}]\n", job.task.kind(), job.key.short(), parents.join(" "));
    }
    for (idx, source) in plan.sources.iter().enumerate() {
        let cells = plan.cells.iter().filter(|it| it.source == idx);
        let cells: Vec<String> = cells.map(|it| format!("{}={:?}", it.sample, it.jobs.first())).collect();
        text += &format!("{}: {} set {:?}\n", source.name, cells.join(" "), source.set);
    }
    text
}

const SWEEP: &str = "name = 't'\n[[images]]\nname = 'photos'\npath = 'p'\n\
    [[generate]]\nname = 'sd3'\nmodel = 'tiny'\nprompts = ['a fox', 'an owl']\nsize = '64x96'\nseed = [0, 1]\n\
    steps = 2\ndtype = 'f32'\n\
    [[reconstruct]]\nname = 'vae'\nof = 'photos'\nmodel = 'tiny'\npartition = ['exact', 'legacy']\n\
    [evaluate]\nmetrics = ['glcm_score', 'compression_ratio', 'psnr']\nreference = 'photos'\n";

#[test]
fn a_small_plan_stays_what_it_is() {
    let (plan, _) = planned(SWEEP, &[&[("a", "1")]]);
    insta::assert_snapshot!(drawing(&plan));
}

#[test]
fn stages_come_one_after_the_other_and_share_their_work() {
    let (plan, _) = planned(SWEEP, &[&[("a", "1")]]);
    // Two prompts and the negative one; the sample `a` has a reference.
    let expected = [("decode", 4), ("denoise", 4), ("encode", 3), ("evaluate", 7), ("pool", 5), ("reconstruct", 2)];
    assert_eq!(counts(&plan), expected);
    let kinds: Vec<&str> = plan.jobs.iter().map(|it| it.task.kind()).collect();
    let stage = |kind: &str| {
        ["encode", "reconstruct", "denoise", "decode", "evaluate", "pool"].iter().position(|it| *it == kind)
    };
    let order: Vec<_> = kinds.iter().map(|it| stage(it).map(|it| it.max(1))).collect();
    assert!(order.is_sorted(), "{kinds:?}");
    let decoded =
        plan.jobs.iter().filter(|it| matches!(&it.task, Task::Evaluate(it) if it.picture.origin == Origin::Job));
    assert_eq!(decoded.filter(|it| it.reference.is_some()).count(), 4, "two generated, two reconstructed");
    assert!(plan.jobs.iter().all(|it| it.task.needs_cuda() == matches!(it.task, Task::Reconstruct(_))));
}

#[test]
fn without_guidance_there_is_no_negative_prompt() {
    let text = |guidance: &str| {
        format!(
            "name = 't'\n[[generate]]\nname = 'g'\nmodel = 'tiny'\nprompts = ['a']\nsize = 64\nguidance = {guidance}\n\
             negative = 'blurry'\n[evaluate]\nmetrics = ['glcm_score']\n"
        )
    };
    assert_eq!(planned(&text("1.0"), &[]).0.counts()["encode"], 1);
    assert_eq!(planned(&text("4.5"), &[]).0.counts()["encode"], 2);
}

#[test]
fn what_matters_changes_a_key_and_what_does_not_does_not() {
    let keys = |text: &str| -> BTreeMap<&'static str, BTreeSet<Hash>> {
        let mut keys: BTreeMap<_, BTreeSet<Hash>> = BTreeMap::new();
        for job in planned(text, &[&[("a", "1")]]).0.jobs {
            keys.entry(job.task.kind()).or_default().insert(job.key);
        }
        keys
    };
    let base = keys(SWEEP);
    let changed = |from: &str, to: &str| -> Vec<&'static str> {
        let other = keys(&SWEEP.replace(from, to));
        ["encode", "denoise", "decode", "reconstruct"]
            .into_iter()
            .filter(|it| base[it].is_disjoint(&other[it]))
            .collect()
    };
    assert_eq!(changed("'t'", "'u'\npriority = 3"), [""; 0]);
    assert_eq!(changed("name = 'sd3'", "name = 'other'"), [""; 0]);
    assert_eq!(changed("steps = 2", "steps = 3"), ["denoise", "decode"]);
    assert_eq!(changed("size = '64x96'", "size = '96x64'"), ["denoise", "decode"]);
    assert_eq!(changed("seed = [0, 1]", "seed = [2, 3]"), ["denoise", "decode"]);
    assert_eq!(changed("steps = 2", "steps = 2\nt5_tokens = 77"), ["encode", "denoise", "decode"]);
    assert_eq!(changed("steps = 2", "steps = 2\nformat = 'jpeg95'"), ["decode"]);
    assert_eq!(changed("steps = 2", "steps = 2\npartition = 'off'"), ["decode"]);
    assert_eq!(changed("model = 'tiny'", "model = 'other'"), ["encode", "denoise", "decode", "reconstruct"]);
    assert_eq!(changed("dtype = 'f32'", "dtype = 'bf16'"), ["encode", "denoise", "decode"]);
}

#[test]
fn originals_lose_what_the_autoencoder_does_not_divide() {
    let steps = |crop: &str| {
        let text = format!(
            "name = 't'\n[[images]]\nname = 'p'\npath = 'p'\n{crop}\n[[reconstruct]]\nname = 'v'\nof = 'p'\nmodel = 'm'\n\
             [evaluate]\nmetrics = ['psnr']\n"
        );
        let (plan, _) = planned(&text, &[&[("a", "1")]]);
        let Task::Reconstruct(task) = &plan.jobs[0].task else { panic!("{:?}", plan.jobs[0].task) };
        task.picture.steps.clone()
    };
    // The made-up photographs are 4000×3000.
    assert_eq!(steps(""), [Step::Trim { unit: 16 }]);
    assert_eq!(steps("crop = 512"), [Step::Crop { size: 512 }]);
    assert_eq!(steps("crop = 500"), [Step::Crop { size: 500 }, Step::Trim { unit: 16 }]);
}

#[test]
fn axes_multiply_or_are_zipped() {
    let text = |expand: &str| {
        format!(
            "name = 't'\n[[generate]]\nname = 'g'\nmodel = ['a', 'b']\nprompts = ['x']\nsize = ['64x64', 96]\nsteps = [2, 3]\n\
             expand = '{expand}'\n[evaluate]\nmetrics = ['glcm_score']\n"
        )
    };
    let names = |text: &str| -> Vec<String> { planned(text, &[]).0.sources.into_iter().map(|it| it.name).collect() };
    assert_eq!(names(&text("zip")), ["g model=a size=64x64 steps=2", "g model=b size=96x96 steps=3"]);
    assert_eq!(names(&text("grid")).len(), 8);
}

#[test]
fn resources_say_what_each_job_asks_of_a_slot() {
    let text = r#"
        name = "t"
        max_running = 7
        [resources]
        gpu = "H100"
        gpu_memory = 80
        labels = ["lab", "disk", "lab"]
        [[images]]
        name = "photos"
        path = "photos"
        [[generate]]
        name = "full"
        model = "sd3"
        prompts = ["a fox"]
        size = 64
        [[generate]]
        name = "own"
        model = "sd3"
        prompts = ["a hen"]
        size = 64
        [generate.resources]
        gpus = 2
        gpu = "A100"
        labels = []
        [evaluate]
        metrics = ["glcm_score", "compression_ratio"]
    "#;
    let (with, _) = planned(text, &[&[("photos", "a")]]);
    assert_eq!(with.max_running, Some(7));
    let asked: BTreeSet<String> = with.jobs.iter().map(|it| format!("{} {}", it.task.kind(), it.needs)).collect();
    let h100 = "a GPU called `h100` with 80 GiB of a worker labelled `disk` and `lab`";
    let a100 = "a slot of 2 GPUs called `a100` with 80 GiB";
    let any = "any slot of a worker labelled `disk` and `lab`";
    // The empty prompt of the guidance is one job for both, which asks what the first asks.
    let mut expected: BTreeSet<String> = [format!("evaluate {any}"), format!("pool {any}")].into();
    for kind in ["encode", "denoise", "decode"] {
        expected.extend([format!("{kind} {h100}"), format!("{kind} {a100}")]);
    }
    assert_eq!(asked, expected);
    // None of it is part of the work.
    let start = text.find("[resources]").unwrap();
    let end = text.find("[[images]]").unwrap();
    let bare = format!("{}{}", &text[..start], &text[end..]).replace("max_running = 7", "priority = 3");
    let (without, _) = planned(&bare, &[&[("photos", "a")]]);
    assert_eq!(with.key(), without.key());
    assert_eq!(without.jobs[0].needs.to_string(), "a GPU", "bf16 needs one");
}
