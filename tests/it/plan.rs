//! Plans: what a sweep comes to.

mod asking;
mod laws;
mod making;
mod training;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jobctl::job::Hash;
use jobctl::job::task::{Evaluate, Picture, Step, Task};
use jobctl::plan::{EdgeKind, Plan, Rung, plan};
use jobctl::sweep::{Inventory, SourceFile, Sweep};

fn file(sample: &str, content: &str) -> SourceFile {
    SourceFile {
        path: PathBuf::from(format!("/data/{sample}.jpg")),
        sample: sample.to_owned(),
        content: Hash::of(content.as_bytes()),
        size: Some((4000, 3000)),
        caption: None,
    }
}

fn parse(text: &str) -> Sweep {
    Sweep::parse(text, "t.toml").unwrap_or_else(|it| panic!("{it}"))
}

/// Each block's files as (sample, content).
fn inventory(blocks: &[&[(&str, &str)]]) -> Inventory {
    Inventory {
        blocks: blocks.iter().map(|it| it.iter().map(|(sample, content)| file(sample, content)).collect()).collect(),
        ..Inventory::default()
    }
}

fn evaluate(plan: &Plan, job: usize) -> &Evaluate {
    match &plan.jobs[job].task {
        Task::Evaluate(it) => it,
        other => panic!("{other:?} is no evaluation"),
    }
}

/// The evaluation of one cell.
fn evaluate_of<'a>(plan: &'a Plan, source: &str, sample: &str) -> &'a Evaluate {
    let cell = plan.cells.iter().find(|it| plan.sources[it.source].name == source && it.sample == sample).unwrap();
    evaluate(plan, cell.jobs[0])
}

fn metrics(task: &Evaluate) -> Vec<String> {
    task.metrics.iter().map(|it| format!("{}:{}", it.metric, it.variant)).collect()
}

/// What holds for every plan.
fn check_laws(plan: &Plan) {
    let keys: HashSet<Hash> = plan.jobs.iter().map(|it| it.key).collect();
    assert_eq!(keys.len(), plan.jobs.len(), "two jobs have one key");
    let names: HashSet<&str> = plan.sources.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names.len(), plan.sources.len(), "two sources have one name");
    for job in &plan.jobs {
        assert_eq!(job.key, job.task.key());
        match &job.task {
            Task::Evaluate(task) => {
                assert_eq!(job.subject, Some(task.picture.key()));
                assert_eq!(job.reference, task.reference.as_ref().map(Picture::key));
                assert_eq!(job.affinity, task.network.or(Some(task.picture.content)));
                assert!(!task.metrics.is_empty());
            }
            Task::Pool(task) => {
                assert!(task.pictures.is_sorted_by(|a, b| a < b) && !task.pictures.is_empty());
                assert_eq!((job.subject, job.reference, job.affinity), (None, None, None));
            }
            Task::Judge(task) => {
                assert_eq!(job.subject, Some(task.first.key()));
                assert!(task.first.key() < task.second.key() && job.needs.asks());
            }
            Task::Caption(task) => {
                assert_eq!(job.subject, Some(task.picture.key()));
                assert!(job.needs.asks());
            }
            model => {
                assert_eq!(job.affinity, model.model());
                let makes_none = matches!(model, Task::Encode(_) | Task::Prepare(_) | Task::Finetune(_));
                assert_eq!(job.subject.is_none(), makes_none);
            }
        }
    }
    let edges: HashSet<(usize, usize)> = plan.edges.iter().map(|it| (it.parent, it.child)).collect();
    assert_eq!(edges.len(), plan.edges.len(), "an edge stands twice");
    // Parents before children: no cycle.
    assert!(plan.edges.iter().all(|it| it.parent < it.child && it.child < plan.jobs.len()));
    for cell in &plan.cells {
        assert!(cell.source < plan.sources.len());
        for &job in &cell.jobs {
            assert_eq!(plan.jobs[job].subject, Some(cell.key));
            let network = plan.jobs[job].task.model();
            // What needs a network is of no set's score.
            if let Some(set) = plan.sources[cell.source].set {
                assert_eq!(edges.contains(&(job, set)), network.is_none());
            }
        }
    }
}

const METRICS: &str = "[evaluate]\nmetrics = ['glcm_score', 'compression_ratio:*', 'psnr']\n";

#[test]
fn metrics_are_asked_where_they_make_sense() {
    let sweep = parse(&format!(
        "name = 't'\n[[images]]\nname = 'photos'\npath = 'p'\n[[images]]\nname = 'crops'\npath = 'p'\ncrop = 512\n\
         [[images]]\nname = 'sana'\npath = 's'\nmodel = 'Sana'\n\
         [[damage]]\nof = 'crops'\nkind = 'blur'\nsigma = [1, 2]\n\
         [[damage]]\nof = 'crops blur'\nkind = 'jpeg'\nquality = 50\ncrop = 256\n{METRICS}reference = 'photos'\n"
    ));
    let photos: &[(&str, &str)] = &[("a", "1"), ("b", "2")];
    let plan = plan(&sweep, &inventory(&[photos, photos, &[("a", "3"), ("c", "4")]])).unwrap();
    check_laws(&plan);

    let names: Vec<&str> = plan.sources.iter().map(|it| it.name.as_str()).collect();
    let expected = [
        "photos",
        "crops",
        "sana",
        "crops blur sigma=1",
        "crops blur sigma=2",
        "crops blur sigma=1 jpeg quality=50",
        "crops blur sigma=2 jpeg quality=50",
    ];
    assert_eq!(names, expected);
    assert_eq!(plan.sources[2].model.as_deref(), Some("Sana"));

    let crop = |size| Step::Crop { size };
    let content = Hash::of(b"1");
    let photo = evaluate_of(&plan, "photos", "a");
    assert_eq!(photo.reference, None, "a reference is not compared with itself");
    assert_eq!(metrics(photo), ["compression_ratio:file", "compression_ratio:jpeg95", "glcm_score:authors"]);

    // Another source is compared with the sample of the same name, a picture that steps made with no file.
    let crops = evaluate_of(&plan, "crops", "a");
    assert_eq!(crops.reference, Some(Picture::of_file(content, vec![])));
    assert_eq!(metrics(crops), ["compression_ratio:jpeg95", "glcm_score:authors", "psnr:rgb"]);
    let sana = evaluate_of(&plan, "sana", "a");
    assert_eq!(sana.reference, Some(Picture::of_file(content, vec![])));
    assert_eq!(evaluate_of(&plan, "sana", "c").reference, None);

    // Damage is compared with what it was done to.
    let blur = evaluate_of(&plan, "crops blur sigma=2", "a");
    assert_eq!(blur.picture.steps, [crop(512), Step::Blur { sigma: 2.0 }]);
    assert_eq!(blur.reference, Some(Picture::of_file(content, vec![crop(512)])));
    let chain = evaluate_of(&plan, "crops blur sigma=2 jpeg quality=50", "a");
    assert_eq!(chain.picture.steps, [crop(512), Step::Blur { sigma: 2.0 }, crop(256), Step::Jpeg { quality: 50 }]);
    assert_eq!(chain.reference, Some(Picture::of_file(content, vec![crop(512), crop(256)])));
    assert_eq!(plan.jobs[plan.cells[8].jobs[0]].megapixels, 512.0 * 512.0 / 1e6);

    // Seven sources with a pooled metric each, waiting for the end of two evaluations each.
    assert_eq!(plan.counts(), BTreeMap::from([("evaluate", 14), ("pool", 7)]));
    assert_eq!(plan.edges.len(), 14);
    assert!(plan.edges.iter().all(|it| it.kind == EdgeKind::After));
}

#[test]
fn a_rung_is_one_level_of_one_parameter() {
    let sweep = parse(
        "name = 't'\n[[images]]\nname = 'p'\npath = 'p'\n\
         [[damage]]\nof = 'p'\nkind = 'jpeg'\nquality = [90, 10]\n\
         [[damage]]\nname = 'soft'\nof = 'p'\nkind = 'blur'\nsigma = 0.5\n\
         [[damage]]\nname = 'grain'\nof = 'p'\nkind = 'noise'\nsigma = [2, 4]\nseed = [0, 1]\n\
         [[damage]]\nname = 'soft grain'\nof = 'soft'\nkind = 'noise'\nsigma = [2, 4]\n\
         [evaluate]\nmetrics = ['glcm_score']\n",
    );
    let plan = plan(&sweep, &inventory(&[&[("a", "1")]])).unwrap();
    check_laws(&plan);
    let rungs: Vec<_> =
        plan.sources.iter().map(|it| (it.name.as_str(), it.rung.as_ref().map(|it| it.severity))).collect();
    let expected = [
        ("p", None),
        ("p jpeg quality=90", Some(-90.0)),
        ("p jpeg quality=10", Some(-10.0)),
        ("soft", Some(0.5)),
        ("grain sigma=2 seed=0", None),
        ("grain sigma=2 seed=1", None),
        ("grain sigma=4 seed=0", None),
        ("grain sigma=4 seed=1", None),
        ("soft grain sigma=2", None),
        ("soft grain sigma=4", None),
    ];
    assert_eq!(rungs, expected);
    let text = |it: &str| it.to_owned();
    let rung = Rung {
        ladder: text("p jpeg"),
        of: text("p"),
        kind: text("jpeg"),
        parameter: text("quality"),
        level: 90.0,
        severity: -90.0,
    };
    assert_eq!(plan.sources[1].rung, Some(rung));
}

#[test]
fn equal_work_is_one_job() {
    // Two samples of one content, in two sources of one folder.
    let sweep = parse(&format!(
        "name = 't'\n[[images]]\nname = 'a'\npath = 'p'\n[[images]]\nname = 'b'\npath = 'p'\n\
         [[damage]]\nof = 'a'\nkind = 'blur'\nsigma = 1\n[[damage]]\nof = 'b'\nkind = 'blur'\nsigma = 1\n{METRICS}"
    ));
    let files: &[(&str, &str)] = &[("x", "same"), ("y", "same")];
    let plan = plan(&sweep, &inventory(&[files, files])).unwrap();
    check_laws(&plan);
    assert_eq!(plan.cells.len(), 8);
    assert_eq!(plan.counts(), BTreeMap::from([("evaluate", 2), ("pool", 2)]));
    assert_eq!(plan.sources[0].set, plan.sources[1].set);
    let Task::Pool(pool) = &plan.jobs[plan.sources[0].set.unwrap()].task else { panic!() };
    assert_eq!(pool.pictures.len(), 1);
}

#[test]
fn two_sources_of_one_name_are_an_error() {
    let sweep = parse(
        "name = 't'\n[[images]]\nname = 'p'\npath = 'p'\n[[images]]\nname = 'p blur sigma=1'\npath = 'p'\n\
         [[damage]]\nof = 'p'\nkind = 'blur'\nsigma = [1, 2]\n[evaluate]\nmetrics = ['glcm_score']\n",
    );
    let error = plan(&sweep, &inventory(&[&[("a", "1")], &[("a", "1")]])).unwrap_err().to_string();
    assert!(error.contains("`p blur sigma=1`"), "{error}");
}

#[test]
fn a_plan_has_its_sweeps_id() {
    let text = format!(
        "name = 't'\n[[images]]\nname = 'p'\npath = 'p'\n[[damage]]\nof = 'p'\nkind = 'blur'\nsigma = [1, 2]\n{METRICS}"
    );
    let key = |text: &str, files: &[(&str, &str)]| plan(&parse(text), &inventory(&[files])).unwrap().key();
    let files: &[(&str, &str)] = &[("a", "1"), ("b", "2")];
    let same = key(&text, files);
    assert_eq!(key(&text.replace("[1, 2]", "[1.0, 2e0]"), files), same);
    assert_eq!(key(&text.replace("name = 't'", "name = 't'\npriority = 5"), files), same);
    assert_eq!(
        key(&text.replace("'glcm_score', 'compression_ratio:*'", "'compression_ratio:*', 'glcm_score'"), files),
        same
    );
    for (other, files) in [
        (text.replace("'t'", "'u'"), files),
        (text.replace("[1, 2]", "[2, 1]"), files),
        (text.replace("[1, 2]", "[1, 3]"), files),
        (text.replace("'psnr'", "'nmse'"), files),
        (text.clone(), &[("a", "1"), ("b", "3")]),
        (text.clone(), &[("a", "1"), ("c", "2")]),
    ] {
        assert_ne!(key(&other, files), same, "{other}");
    }
}

#[test]
fn what_is_known_is_not_asked_again() {
    let sweep = parse(&format!(
        "name = 't'\n[[images]]\nname = 'p'\npath = 'p'\n[[damage]]\nof = 'p'\nkind = 'blur'\nsigma = 1\n{METRICS}"
    ));
    let full = plan(&sweep, &inventory(&[&[("a", "1")]])).unwrap();
    let [photo, blur] = [0, 1].map(|it| full.cells[it].key);

    // Scores that compare are known for their reference alone.
    let trimmed =
        full.clone().trim(&|key, reference, it, _| it.metric == "psnr" && *key == blur && reference == Some(&photo));
    check_laws(&trimmed);
    let blurred = evaluate_of(&trimmed, "p blur sigma=1", "a");
    assert_eq!((blurred.metrics.len(), &blurred.reference), (2, &None), "nothing is left to compare");
    let asked_alone = full.clone().trim(&|_, reference, it, _| it.metric == "psnr" && reference.is_none());
    assert_eq!(asked_alone, full);

    // A set is scored again if one of its pictures is.
    let trimmed = full.clone().trim(&|key, _, it, _| *key == photo || it.metric == "psnr");
    check_laws(&trimmed);
    assert_eq!(trimmed.counts(), BTreeMap::from([("evaluate", 1), ("pool", 2)]));
    assert_eq!((&trimmed.cells[0].jobs[..], &trimmed.cells[1].jobs[..]), (&[][..], &[0][..]));

    let nothing = full.trim(&|_, _, _, _| true);
    assert!(nothing.jobs.is_empty() && nothing.edges.is_empty());
    assert!(nothing.cells.iter().all(|it| it.jobs.is_empty()) && nothing.sources.iter().all(|it| it.set.is_none()));
}

#[test]
fn cells_are_counted_without_expanding() {
    let seeds: Vec<String> = (0..1000).map(|it| it.to_string()).collect();
    let axis = seeds.join(",");
    let mut text = "name = 't'\n[[images]]\nname = 'd0'\npath = 'p'\n".to_owned();
    for idx in 0..8 {
        text += &format!(
            "[[damage]]\nname = 'd{}'\nof = 'd{idx}'\nkind = 'noise'\nsigma = [{}]\nseed = [{axis}]\n",
            idx + 1,
            seeds[1..].join(",")
        );
    }
    let files = inventory(&[&[("a", "1"), ("b", "2")]]);
    let n_cells = |text: &str| parse(&format!("{text}[evaluate]\nmetrics = ['glcm_score']\n")).n_cells(&files);
    assert_eq!(n_cells(&text), u64::MAX);
    let one = text.find("[[damage]]\nname = 'd2'").unwrap();
    assert_eq!(n_cells(&text[..one]), 2 + 2 * 999 * 1000);
}

#[test]
fn a_hundred_thousand_cells_take_no_time() {
    let levels: Vec<String> = (1..=999).map(|it| (f64::from(it) / 100.0).to_string()).collect();
    let text = format!(
        "name = 'large'\n[[images]]\nname = 'photos'\npath = '.'\n[[damage]]\nof = 'photos'\nkind = 'blur'\nsigma = [{}]\n\
         [evaluate]\nmetrics = ['glcm_score', 'glcm_entropy', 'compression_ratio', 'psnr', 'ssim', 'nmse']\n",
        levels.join(", ")
    );
    let sweep = parse(&text);
    let blocks = vec![(0..100).map(|it| file(&it.to_string(), &it.to_string())).collect()];
    let inventory = Inventory { blocks, ..Inventory::default() };
    assert_eq!(sweep.n_cells(&inventory), 100_000);
    let start = Instant::now();
    let plan = plan(&sweep, &inventory).unwrap();
    assert_eq!(plan.cells.len(), 100_000);
    assert_eq!(plan.counts(), BTreeMap::from([("evaluate", 100_000), ("pool", 1000)]));
    assert_eq!(plan.edges.len(), 100_000);
    let trimmed = plan.trim(&|_, _, it, _| it.metric == "psnr");
    assert_eq!(trimmed.counts(), BTreeMap::from([("evaluate", 100_000), ("pool", 1000)]));
    // Generous, for machines that do other things as well; a step that is quadratic takes minutes.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn every_sweep_in_jobs_plans() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs");
    let mut names = BTreeSet::new();
    for entry in
        folder.read_dir().unwrap().map(Result::unwrap).filter(|it| it.path().extension().is_some_and(|it| it == "toml"))
    {
        let name = entry.file_name().into_string().unwrap();
        let sweep =
            Sweep::parse(&std::fs::read_to_string(entry.path()).unwrap(), &name).unwrap_or_else(|it| panic!("{it}"));
        let files: &[(&str, &str)] = &[("a", "1"), ("b", "2")];
        let mut inventory = inventory(&vec![files; sweep.images.len()]);
        making::resources(&sweep, &mut inventory);
        let plan = plan(&sweep, &inventory).unwrap();
        check_laws(&plan);
        assert_eq!(plan.cells.len() as u64, sweep.n_cells(&inventory));
        let ladders: BTreeSet<&str> =
            plan.sources.iter().filter_map(|it| Some(it.rung.as_ref()?.ladder.as_str())).collect();
        let expected = BTreeSet::from(["crops blur", "crops jpeg", "crops noise", "crops resize"]);
        assert!(sweep.damage.is_empty() || !sweep.judge.is_empty() || ladders == expected, "{name}");
        names.insert(name);
    }
    assert!(names.contains("demo.toml") && names.contains("smoke.toml"), "{names:?}");
}
