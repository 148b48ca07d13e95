//! A run with everything that belongs to it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use jobctl::job::Hash;
use jobctl::models::weights::Weights;
use jobctl::train::checkpoint::{Keeper, Run, Shelf};
use jobctl::train::exchange::Alone;
use jobctl::train::feed::{Example, Feed, Look, Source};
use jobctl::train::objective::Objective;
use jobctl::train::optim::{AdamW, Course, Rate};
use jobctl::train::parameters::{Gradients, Parameters};
use jobctl::train::session::{self, Ending, Keep, Rhythm, Watcher};
use jobctl::train::trainer::{Looked, Settings, Step, Trainer};
use jobctl::train::transformer::{FlowMatching, Recompute};
use jobctl::train::wlf::{Loss, Losses};

use super::run::{drawing, examples, levels};
use super::{config, floats, whole};

/// Writes down what it sees, and stops the run after some steps.
#[derive(Default)]
struct Notes {
    steps: Vec<Step>,
    looks: Vec<(usize, Vec<f64>)>,
    /// After how many steps it rested, and the first number of the weights that it saw.
    rests: Vec<(usize, f32)>,
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

    fn wants_rest(&self, step: usize) -> bool {
        step.is_multiple_of(2)
    }

    fn rests(&mut self, step: usize, parameters: &Parameters) -> anyhow::Result<()> {
        self.rests.push((step, floats(parameters.variables()[0].as_tensor())[0]));
        Ok(())
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
    let objective = FlowMatching { config: config("tiny"), loss: Loss::plain(), recompute: Recompute::Blocks };
    let rate = Rate { rate: 1e-3, warm_up: 0, course: Course::Linear };
    let settings = Settings { n_steps: N_STEPS, rate, ..Settings::default() };
    let mut trainer = Trainer::new(objective, whole("tiny"), settings, &Alone).unwrap();
    let mut shelf = Shelf::new(folder, this_run(), 2).unwrap();
    let device = Device::Cpu;
    let held_out = vec![examples[4].clone()];
    let rest = examples[..4].to_vec();
    let mut feed = Feed::new(drawing(1, 2), levels(), &rest, &device).unwrap();
    let looks = Feed::new(drawing(2, 1), levels(), &held_out, &device).unwrap();
    let mut notes = Notes { stop_after, ..Notes::default() };
    let rhythm = Rhythm { save_every: 4, look_every: 3, n_levels: 3, keep: Keep::Last };
    let ending =
        session::run(&mut trainer, &mut feed, Some(&looks), &mut shelf, (rhythm, N_STEPS), &mut Alone, &mut notes);
    let weights = trainer.parameters().variables().iter().map(|it| it.as_tensor().copy().unwrap()).collect();
    (ending, notes, weights)
}

fn this_run() -> Run {
    Run { model: Hash::of(b"m"), data: Hash::of(b"d"), settings: BTreeMap::new() }
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

/// One number, drawn to where the batch says by the square of the distance. AdamW moves it by the rate each step, if it is
/// far away: what a run comes to is known without computing it.
struct Drawn;

impl Drawn {
    fn of(number: &Tensor, goal: f64) -> anyhow::Result<Losses> {
        let total = (number - goal)?.sqr()?.sum_all()?;
        Ok(Losses { bands: total.detach().reshape(1)?, total })
    }
}

impl Objective for Drawn {
    type Batch = f64;

    fn gradients(&self, parameters: &Parameters, batch: &f64, into: &mut Gradients) -> anyhow::Result<Losses> {
        let losses = Self::of(parameters.variables()[0].as_tensor(), *batch)?;
        into.take(&mut losses.total.backward()?, parameters)?;
        Ok(losses.detached())
    }

    fn loss(&self, parameters: &Parameters, batch: &f64) -> anyhow::Result<Losses> {
        Self::of(&parameters.variables()[0].as_detached_tensor(), *batch)
    }
}

/// Draws to one place for ever.
struct To(f64);

impl Source for To {
    type Batch = f64;

    fn batches(&mut self, _: usize, _: usize, _: usize) -> anyhow::Result<Vec<f64>> {
        Ok(vec![self.0])
    }

    fn shown(&mut self, _: usize, _: usize, _: usize) -> Vec<String> {
        vec!["it".to_owned()]
    }

    fn all(&self, _: usize) -> anyhow::Result<Vec<Look<f64>>> {
        Ok(vec![Look { of: "it".to_owned(), n: 1, batch: self.0 }])
    }
}

/// The loss on what is held out is the square of the distance from here.
const HELD_OUT: f64 = 4.0;

/// A number that goes from 0 by 1 a step, of which the best is kept; what was seen, and the number at the end.
fn walk(folder: &Path, ema: Option<f64>, look_every: usize, stop_after: Option<usize>) -> (Notes, f32) {
    let zero = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let weights = Weights::given(HashMap::from([("number".to_owned(), zero)]), &Device::Cpu, DType::F32);
    let start = Parameters::whole(&[("number".to_owned(), vec![1])], &weights, DType::F32, |_| false).unwrap();
    let settings = Settings {
        n_steps: N_STEPS,
        rate: Rate { rate: 1.0, warm_up: 0, course: Course::Constant },
        adamw: AdamW { weight_decay: 0.0, ..AdamW::default() },
        ema,
        ..Settings::default()
    };
    let mut trainer = Trainer::new(Drawn, start, settings, &Alone).unwrap();
    let mut shelf = Shelf::new(folder, this_run(), 2).unwrap();
    let mut notes = Notes { stop_after, ..Notes::default() };
    let rhythm = Rhythm { save_every: 1, look_every, n_levels: 1, keep: Keep::Best };
    let (mut far, held_out) = (To(1e6), To(HELD_OUT));
    let steps = (rhythm, N_STEPS);
    session::run(&mut trainer, &mut far, Some(&held_out), &mut shelf, steps, &mut Alone, &mut notes).unwrap();
    let number = floats(trainer.parameters().variables()[0].as_tensor())[0];
    (notes, number)
}

fn assert_near<T: Into<f64> + Copy + std::fmt::Debug>(seen: &[(usize, T)], expected: &[(usize, f64)]) {
    assert_eq!(seen.len(), expected.len(), "{seen:?}");
    for ((step, value), (at, wanted)) in seen.iter().zip(expected) {
        assert!(step == at && ((*value).into() - wanted).abs() < 1e-4, "{seen:?} {expected:?}");
    }
}

#[test]
fn the_best_weights_stay_and_are_known_to_whoever_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (notes, number) = walk(folder.path(), None, 3, None);
    assert!((number - 9.0).abs() < 1e-4, "{number}");
    let looks: Vec<(usize, f64)> = notes.looks.iter().map(|it| (it.0, it.1[0])).collect();
    assert_near(&looks, &[(0, 16.0), (3, 1.0), (6, 4.0), (9, 25.0)]);
    let shelf = |folder: &Path| Shelf::new(folder, this_run(), 2).unwrap();
    assert_eq!(shelf(folder.path()).best().unwrap(), Some(looks[1]));
    assert_eq!(shelf(folder.path()).steps().unwrap(), [9, 8, 3]);

    let parts = tempfile::tempdir().unwrap();
    for stop_after in [Some(4), Some(2), None] {
        walk(parts.path(), None, 3, stop_after);
    }
    assert_eq!(shelf(parts.path()).best().unwrap(), Some(looks[1]));
    assert_eq!(shelf(parts.path()).steps().unwrap(), [9, 8, 3]);
    let values = |folder: &Path| bits(&shelf(folder).at(3).unwrap().values);
    assert!(values(parts.path()) == values(folder.path()));
}

#[test]
fn looks_and_rests_see_the_running_mean_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (notes, number) = walk(folder.path(), Some(0.5), 3, None);
    // Of 0, 1, 2, …, t, each counting half as much as the next.
    let mean = |step: usize| step as f64 - 1.0 + 0.5_f64.powi(step as i32);
    let looks: Vec<(usize, f64)> = notes.looks.iter().map(|it| (it.0, it.1[0])).collect();
    assert_near(&looks, &[0, 3, 6, 9].map(|it| (it, (mean(it) - HELD_OUT).powi(2))));
    assert_near(&notes.rests, &[0, 2, 4, 6, 8].map(|it| (it, mean(it))));
    // By the trained number 3 would have been the best.
    let shelf = Shelf::new(folder.path(), this_run(), 2).unwrap();
    assert_eq!(shelf.best().unwrap().unwrap().0, 6);
    let best = shelf.at(6).unwrap();
    assert_near(&[(6, floats(&best.comes_out()[0])[0])], &[(6, mean(6))]);
    assert_near(&[(6, floats(&best.values[0])[0])], &[(6, 6.0)]);

    let rarely = tempfile::tempdir().unwrap();
    let (_, undisturbed) = walk(rarely.path(), Some(0.5), 100, None);
    assert_eq!(number.to_bits(), undisturbed.to_bits());
    assert!((number - 9.0).abs() < 1e-4, "the run goes on with the trained number: {number}");
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
