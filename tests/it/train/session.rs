//! A run with everything that belongs to it.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use jobctl::job::Hash;
use jobctl::train::checkpoint::{Keeper, Run, Shelf};
use jobctl::train::exchange::Alone;
use jobctl::train::feed::{Example, Feed};
use jobctl::train::optim::{Course, Rate};
use jobctl::train::session::{self, Ending, Keep, Rhythm, Watcher};
use jobctl::train::trainer::{Looked, Settings, Step, Trainer};
use jobctl::train::transformer::{FlowMatching, Recompute};
use jobctl::train::wlf::Loss;

use super::run::{drawing, examples, levels};
use super::{config, floats, whole};

/// Writes down what it sees, and stops the run after some steps.
#[derive(Default)]
struct Notes {
    steps: Vec<Step>,
    looks: Vec<(usize, Vec<f64>)>,
    told: Vec<String>,
    stop_after: Option<usize>,
}

impl Watcher for Notes {
    fn stepped(&mut self, step: &Step, seconds: f64) {
        assert!(seconds > 0.0);
        self.steps.push(step.clone());
    }

    fn looked(&mut self, step: usize, looked: &Looked) {
        self.looks.push((step, looked.losses.clone()));
    }

    fn told(&mut self, text: &str) {
        self.told.push(text.to_owned());
    }

    fn is_stopped(&mut self) -> bool {
        self.stop_after.is_some_and(|it| self.steps.len() >= it)
    }
}

const N_STEPS: usize = 9;

/// Runs it in `folder`; the end, what was seen, and the weights.
fn run(folder: &Path, examples: &[Example], stop_after: Option<usize>) -> (anyhow::Result<Ending>, Notes, Vec<Tensor>) {
    run_keeping(folder, examples, stop_after, Keep::Last)
}

fn this_run() -> Run {
    Run { model: Hash::of(b"m"), data: Hash::of(b"d"), settings: BTreeMap::new() }
}

fn run_keeping(
    folder: &Path,
    examples: &[Example],
    stop_after: Option<usize>,
    keep: Keep,
) -> (anyhow::Result<Ending>, Notes, Vec<Tensor>) {
    let objective = FlowMatching { config: config("tiny"), loss: Loss::plain(), recompute: Recompute::Blocks };
    // Where the best is wanted, the rate grows so far that looks go up and down.
    let (rate, warm_up) = if keep == Keep::Best { (0.1, N_STEPS) } else { (1e-3, 0) };
    let rate = Rate { rate, warm_up, course: Course::Linear };
    let settings = Settings { n_steps: N_STEPS, rate, ..Settings::default() };
    let mut trainer = Trainer::new(objective, whole("tiny"), settings, &Alone).unwrap();
    let mut shelf = Shelf::new(folder, this_run(), 2).unwrap();
    let device = Device::Cpu;
    let held_out = vec![examples[4].clone()];
    let rest = examples[..4].to_vec();
    let mut feed = Feed::new(drawing(1, 2), levels(), &rest, &device).unwrap();
    let looks = Feed::new(drawing(2, 1), levels(), &held_out, &device).unwrap();
    let mut notes = Notes { stop_after, ..Notes::default() };
    let save_every = if keep == Keep::Best { 1 } else { 4 };
    let rhythm = Rhythm { save_every, look_every: 3, n_levels: 3, keep };
    let ending =
        session::run(&mut trainer, &mut feed, Some(&looks), &mut shelf, (rhythm, N_STEPS), &mut Alone, &mut notes);
    let weights = trainer.parameters().variables().iter().map(|it| it.as_tensor().copy().unwrap()).collect();
    (ending, notes, weights)
}

fn bits(weights: &[Tensor]) -> Vec<u32> {
    weights.iter().flat_map(floats).map(f32::to_bits).collect()
}

#[test]
fn a_run_that_is_stopped_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (ending, whole_notes, whole) = run(&folder.path().join("whole"), &examples(), None);
    assert_eq!(ending.unwrap(), Ending::Done);
    assert_eq!(whole_notes.steps.len(), N_STEPS);
    assert_eq!(whole_notes.looks.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 3, 6, 9]);

    let at = folder.path().join("parts");
    let (ending, first, _) = run(&at, &examples(), Some(5));
    assert_eq!(ending.unwrap(), Ending::Stopped);
    let (ending, second, weights) = run(&at, &examples(), None);
    assert_eq!(ending.unwrap(), Ending::Done);
    assert_eq!(second.told, ["goes on after step 5"]);
    assert_eq!([first.steps, second.steps].concat(), whole_notes.steps);
    assert_eq!([first.looks, second.looks].concat(), whole_notes.looks);
    assert!(bits(&weights) == bits(&whole));
    // A run that is over is not done again.
    let (ending, third, weights) = run(&at, &examples(), None);
    assert!(ending.unwrap() == Ending::Done && third.steps.is_empty() && bits(&weights) == bits(&whole));
}

#[test]
fn a_run_that_was_killed_goes_on_after_its_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (_, whole_notes, whole) = run(&folder.path().join("whole"), &examples(), None);
    let at = folder.path().join("killed");
    run(&at, &examples(), Some(7)).0.unwrap();
    // As if it had died before it could save step 7.
    std::fs::remove_file(at.join("step-00000007.safetensors")).unwrap();
    let (_, rest, weights) = run(&at, &examples(), None);
    assert_eq!(rest.told, ["goes on after step 4"]);
    assert_eq!(rest.steps, whole_notes.steps[4..]);
    assert!(bits(&weights) == bits(&whole));
}

#[test]
fn the_best_weights_stay_and_are_known_to_whoever_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (_, notes, _) = run_keeping(folder.path(), &examples(), None, Keep::Best);
    let looks = notes.looks[1..].iter().map(|it| (it.0, it.1[0]));
    let best = looks.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let shelf = |folder: &Path| Shelf::new(folder, this_run(), 2).unwrap();
    assert_eq!(shelf(folder.path()).best().unwrap(), Some(best));
    let kept: Vec<usize> = [9, 8].into_iter().chain((best.0 < 8).then_some(best.0)).collect();
    assert_eq!(shelf(folder.path()).steps().unwrap(), kept);

    let parts = tempfile::tempdir().unwrap();
    for stop_after in [Some(best.0 + 1), Some(2), None] {
        run_keeping(parts.path(), &examples(), stop_after, Keep::Best).0.unwrap();
    }
    assert_eq!(shelf(parts.path()).best().unwrap(), Some(best));
    let values = |folder: &Path| bits(&shelf(folder).at(best.0).unwrap().values);
    assert!(values(parts.path()) == values(folder.path()));
}

#[test]
fn a_loss_that_is_no_number_names_the_images_and_keeps_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (_, notes, _) = run(folder.path(), &examples(), Some(5));
    assert_eq!(notes.steps.len(), 5);
    let mut broken = examples();
    broken[2].latent = (&broken[2].latent * f64::NAN).unwrap();
    let (ending, rest, _) = run(folder.path(), &broken, None);
    let error = format!("{:#}", ending.unwrap_err());
    assert!(error.contains("is not finite") && error.contains("on images ") && error.contains('2'), "{error}");
    assert!(rest.steps.len() < 4, "every pass of two steps shows image 2");
    let (ending, _, _) = run(folder.path(), &examples(), None);
    assert_eq!(ending.unwrap(), Ending::Done);
}
