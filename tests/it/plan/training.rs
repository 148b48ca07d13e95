//! Plans of sweeps that train: what waits for what, what is shared.

use std::collections::HashSet;

use jobctl::job::Hash;
use jobctl::job::task::Task;
use jobctl::job::task::finetune::Finetune;
use jobctl::plan::{Job, Plan, plan};

use super::making::resources;
use super::{check_laws, inventory, parse};

fn planned(text: &str) -> Plan {
    let sweep = parse(text);
    let mut inventory = inventory(&[]);
    resources(&sweep, &mut inventory);
    let plan = plan(&sweep, &inventory).unwrap();
    check_laws(&plan);
    plan
}

fn trains(plan: &Plan) -> Vec<(usize, &Finetune)> {
    let train = |(idx, job): (usize, &'_ Job)| match &job.task {
        Task::Finetune(_) => Some(idx),
        _ => None,
    };
    let places = plan.jobs.iter().enumerate().filter_map(train);
    let task = |idx: usize| match &plan.jobs[idx].task {
        Task::Finetune(task) => (idx, &**task),
        other => panic!("{other:?}"),
    };
    places.map(task).collect()
}

fn parents(plan: &Plan, child: usize) -> HashSet<&'static str> {
    plan.edges.iter().filter(|it| it.child == child).map(|it| plan.jobs[it.parent].task.kind()).collect()
}

const EVALUATE: &str = "[evaluate]\nmetrics = ['glcm_score']\n";

fn text(keys: &str) -> String {
    format!(
        "name = 't'\n[[finetune]]\nname = 'b'\nmodel = 'P'\ndata = 'd'\nsize = 512\nheld_out = 10\n{keys}\n\
         [[generate]]\nname = 'g'\nmodel = ['P', 'b']\nprompts = ['a']\nsize = 512\n{EVALUATE}"
    )
}

#[test]
fn models_that_learn_from_the_same_pictures_share_what_is_prepared() {
    let plan = planned(&text("seed = [0, 1]"));
    let counts = plan.counts();
    // 140 pictures in shards of 64, and the 10 that are held out; 7 captions, the prompt, the empty negative one.
    assert_eq!((counts["prepare"], counts["encode"], counts["finetune"]), (4, 9, 2));
    let trained = trains(&plan);
    for (idx, task) in &trained {
        assert_eq!(parents(&plan, *idx), HashSet::from(["encode", "prepare"]));
        assert_eq!((task.data.shards.len(), task.data.texts.len()), (3, 140));
        assert_eq!((task.held_out.shards.len(), task.held_out.texts.len()), (1, 10));
    }
    assert_eq!(trained[0].1.data, trained[1].1.data);
    let names: Vec<&str> = plan.trainings.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["b seed=0", "b seed=1"]);
    let keys: Vec<Hash> = trained.iter().map(|(idx, _)| plan.jobs[*idx].key).collect();
    assert_eq!(plan.trainings.iter().map(|it| it.key).collect::<Vec<_>>(), keys);
}

#[test]
fn what_is_held_out_is_none_of_what_is_learnt_from() {
    let plan = planned(&text(""));
    let (_, task) = trains(&plan)[0];
    let pictures = |keys: &[Hash]| -> HashSet<Hash> {
        let shards = plan.jobs.iter().filter(|it| keys.contains(&it.key));
        shards.flat_map(|it| if let Task::Prepare(it) = &it.task { it.pictures.clone() } else { Vec::new() }).collect()
    };
    let (learnt, held_out) = (pictures(&task.data.shards), pictures(&task.held_out.shards));
    assert_eq!((learnt.len(), held_out.len()), (140, 10));
    assert!(learnt.is_disjoint(&held_out));
    let other = planned(&text("seed = 7\nsteps = 3\nlearning_rate = 0.1"));
    assert_eq!(trains(&other)[0].1.held_out, task.held_out, "all models hold out the same");
}

#[test]
fn whoever_uses_a_model_waits_for_it_and_is_named_by_it() {
    let plan = planned(&text(""));
    let (place, _) = trains(&plan)[0];
    let key = plan.jobs[place].key;
    let denoise: Vec<usize> = (0..plan.jobs.len()).filter(|it| plan.jobs[*it].task.kind() == "denoise").collect();
    assert_eq!(denoise.len(), 2);
    let waits: Vec<bool> = denoise.iter().map(|it| parents(&plan, *it).contains("finetune")).collect();
    assert_eq!(waits, [false, true]);
    assert_eq!(plan.jobs[denoise[1]].task.model(), Some(key));
    let others = plan.jobs.iter().filter(|it| it.task.model() == Some(key)).count();
    assert_eq!(others, 1, "text encoders and autoencoder stay the package's");
}

#[test]
fn a_trained_autoencoder_makes_the_latents_of_what_comes_after() {
    let plan = planned(&format!(
        "name = 't'\n[[finetune]]\nname = 'v'\npart = 'vae'\nmodel = 'P'\ndata = 'd'\nsize = 512\n\
         [[finetune]]\nname = 'b'\nmodel = 'v'\ndata = 'd'\nsize = 512\n\
         [[generate]]\nname = 'g'\nmodel = 'b'\nprompts = ['a']\nsize = 512\n{EVALUATE}"
    ));
    let trained = trains(&plan);
    let (vae, denoiser) = (trained[0].0, trained[1].0);
    assert_eq!(parents(&plan, vae), HashSet::from(["prepare"]), "an autoencoder reads no captions");
    assert!(!parents(&plan, denoiser).contains("finetune"), "the denoiser itself is the package's");
    let key = Some(plan.jobs[vae].key);
    let uses: HashSet<&str> = plan.jobs.iter().filter(|it| it.task.model() == key).map(|it| it.task.kind()).collect();
    assert_eq!(uses, HashSet::from(["prepare", "decode"]));
}
