//! Plans: what a sweep comes to.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use jobctl::job::Hash;
use jobctl::job::task::{Evaluate, Step, Task};
use jobctl::plan::{EdgeKind, Plan, plan};
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

#[test]
fn a_hundred_thousand_cells_take_no_time() {
    let levels: Vec<String> = (1..=999).map(|it| (f64::from(it) / 100.0).to_string()).collect();
    let text = format!(
        "name = 'large'\n[[images]]\nname = 'photos'\npath = '.'\n[[damage]]\nof = 'photos'\nkind = 'blur'\nsigma = [{}]\n\
         [evaluate]\nmetrics = ['glcm_score', 'glcm_entropy', 'compression_ratio', 'psnr', 'ssim', 'nmse']\n",
        levels.join(", ")
    );
    let sweep = Sweep::parse(&text, "large.toml").unwrap();
    let inventory = Inventory { blocks: vec![(0..100).map(|it| file(&it.to_string(), &it.to_string())).collect()] };
    assert_eq!(sweep.n_cells(&inventory), 100_000);
    let start = Instant::now();
    let plan = plan(&sweep, &inventory).unwrap();
    println!("planned in {:?}", start.elapsed());
    assert_eq!(plan.cells.len(), 100_000);
    assert_eq!(plan.counts(), BTreeMap::from([("evaluate", 100_000), ("pool", 1000)]));
    assert_eq!(plan.edges.len(), 100_000);
    let start = Instant::now();
    let key = plan.key();
    println!("its key {} in {:?}", key.short(), start.elapsed());
    let start = Instant::now();
    let trimmed = plan.trim(&|_, _, it| it.metric == "psnr");
    println!("trimmed in {:?}", start.elapsed());
    assert_eq!(trimmed.jobs.len(), 101_000);
}
