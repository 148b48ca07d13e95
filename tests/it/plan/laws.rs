//! What holds for the plan of any sweep.

use std::collections::BTreeSet;

use jobctl::job::Hash;
use jobctl::job::task::MetricId;
use jobctl::plan::{Plan, plan};
use jobctl::sweep::Inventory;
use proptest::prelude::*;

use super::{check_laws, evaluate, file, parse};

/// A sweep of one to three images blocks and up to four damage blocks, each of any block before it,
/// and files of which some have equal contents.
fn any_sweep() -> impl Strategy<Value = (String, Inventory)> {
    let files = prop::collection::btree_map("[a-e]", 0..6_u8, 1..5);
    let images = prop::collection::vec((files, prop::option::of(1..4_u32)), 1..4);
    let damage =
        prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, 1..4_u32, 1..3_u32, any::<bool>()), 0..5);
    let wanted = prop::sample::subsequence(
        vec!["'glcm_score'", "'compression_ratio'", "'compression_ratio:file'", "'glcm_texture:*'"],
        1..=4,
    );
    (images, damage, wanted, any::<bool>()).prop_map(|(images, damage, mut wanted, with_reference)| {
        let mut text = "name = 't'\n".to_owned();
        let mut blocks = Vec::new();
        for (idx, (files, crop)) in images.iter().enumerate() {
            text += &format!("[[images]]\nname = 'b{idx}'\npath = 'p'\n");
            text += &crop.map_or_else(String::new, |it| format!("crop = {}\n", it * 100));
            blocks.push(files.iter().map(|(sample, content)| file(sample, &content.to_string())).collect());
        }
        for (idx, (of, kind, n_levels, n_seeds, zip)) in damage.iter().enumerate() {
            let of = of.index(images.len() + idx);
            let list = |n: u32| (1..=n).map(|it| it.to_string()).collect::<Vec<_>>().join(", ");
            let (kind, key) =
                [("blur", "sigma"), ("resize", "factor"), ("jpeg", "quality"), ("noise", "sigma")][usize::from(*kind)];
            text += &format!("[[damage]]\nname = 'b{}'\nof = 'b{of}'\nkind = '{kind}'\n", images.len() + idx);
            text += &format!("{key} = [{}]\n", list(*n_levels));
            if kind == "noise" {
                let n_seeds = if *zip { *n_levels } else { *n_seeds };
                text += &format!("seed = [{}]\nexpand = '{}'\n", list(n_seeds), if *zip { "zip" } else { "grid" });
            }
        }
        if with_reference || !damage.is_empty() {
            wanted.push("'psnr'");
        }
        text += &format!("[evaluate]\nmetrics = [{}]\n", wanted.join(", "));
        text += if with_reference { "reference = 'b0'\n" } else { "" };
        (text, Inventory { blocks, ..Inventory::default() })
    })
}

fn job_keys(plan: &Plan) -> BTreeSet<Hash> {
    plan.jobs.iter().map(|it| it.key).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_keep_their_laws((text, inventory) in any_sweep()) {
        let sweep = parse(&text);
        let planned = plan(&sweep, &inventory).unwrap();
        check_laws(&planned);
        prop_assert_eq!(planned.cells.len() as u64, sweep.n_cells(&inventory));
        let again = plan(&parse(&text), &inventory).unwrap();
        prop_assert_eq!(planned.key(), again.key());
        prop_assert_eq!(&planned, &again);
    }

    #[test]
    fn another_source_changes_no_other_job((text, mut inventory) in any_sweep(), content in 0..9_u8) {
        let before = plan(&parse(&text), &inventory).unwrap();
        let at = text.find("[evaluate]").unwrap();
        let block = "[[images]]\nname = 'new'\npath = 'p'\n[[damage]]\nof = 'new'\nkind = 'blur'\nsigma = [7, 8]\n";
        inventory.blocks.push(vec![file("a", &content.to_string())]);
        let after = plan(&parse(&format!("{}{block}{}", &text[..at], &text[at..])), &inventory).unwrap();
        prop_assert!(job_keys(&before).is_subset(&job_keys(&after)));
    }

    #[test]
    fn trimming_takes_out_just_what_is_known((text, inventory) in any_sweep(), salt in any::<u8>()) {
        let planned = plan(&parse(&text), &inventory).unwrap();
        let known = |key: &Hash, reference: Option<&Hash>, it: &MetricId, _: Option<&Hash>| {
            Hash::of_value(&(key, reference, it, salt)).0[0].is_multiple_of(2)
        };
        let trimmed = planned.clone().trim(&known);
        check_laws(&trimmed);
        for (before, after) in planned.cells.iter().zip(&trimmed.cells) {
            let asked = |plan: &Plan, job: Option<usize>| job.map_or_else(Vec::new, |it| evaluate(plan, it).metrics.clone());
            let reference = before.jobs.first().copied().and_then(|it| planned.jobs[it].reference);
            let left: Vec<MetricId> = asked(&planned, before.jobs.first().copied()).into_iter()
                .filter(|it| !known(&before.key, reference.as_ref().filter(|_| it.metric == "psnr"), it, None)).collect();
            prop_assert_eq!(asked(&trimmed, after.jobs.first().copied()), left);
        }
        prop_assert_eq!(&trimmed, &planned.clone().trim(&known));
        prop_assert_eq!(&planned.clone().trim(&|_, _, _, _| false), &planned);
        let nothing = planned.trim(&|_, _, _, _| true);
        prop_assert!(nothing.jobs.is_empty() && nothing.edges.is_empty());
    }
}
