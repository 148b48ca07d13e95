//! Whole runs: accumulated, shared out, interrupted.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use jobctl::job::Hash;
use jobctl::models::schedule;
use jobctl::train::checkpoint::{Keeper, Run, Shelf};
use jobctl::train::exchange::{Alone, Communicator, Local, Meeting, owners};
use jobctl::train::feed::{Drawing, Example, Feed};
use jobctl::train::optim::{Course, Rate};
use jobctl::train::random::{Purpose, Stream};
use jobctl::train::timesteps::{Density, Levels, Weighting};
use jobctl::train::trainer::{Settings, Snapshot, Step, Trainer};
use jobctl::train::transformer::{FlowMatching, Recompute};
use jobctl::train::wlf::{Loss, Space};

use super::{config, distance, floats, package, whole};

/// Five made-up images for the tiny package.
pub fn examples() -> Vec<Example> {
    let random = |idx: u64, key: u64, dims: &[usize]| {
        let values = Stream::new(idx, Purpose::HeldOut, key, 0).normals(dims.iter().product());
        Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
    };
    (0..5)
        .map(|idx| Example {
            latent: random(idx, 0, &[4, 6, 8]),
            context: random(idx, 1, &[5, 32]),
            pooled: random(idx, 2, &[24]),
        })
        .collect()
}

pub fn drawing(batch: usize, accumulate: usize) -> Drawing {
    Drawing { seed: 11, batch, accumulate, density: Density::default(), weighting: Weighting::None }
}

pub fn levels() -> Levels {
    Levels::new(&schedule::Config::read(&package("tiny").config("scheduler")).unwrap())
}

fn settings() -> Settings {
    Settings {
        n_steps: 6,
        rate: Rate { rate: 2e-3, warm_up: 2, course: Course::Cosine },
        ema: Some(0.9),
        ..Settings::default()
    }
}

fn trainer(ranks: &dyn Communicator, recompute: Recompute) -> Trainer<FlowMatching> {
    let loss = Loss { space: Space::X0, bands: vec![1.0, 1.0, 1.0, 4.0] };
    let objective = FlowMatching { config: config("tiny"), loss, recompute };
    Trainer::new(objective, whole("tiny"), settings(), ranks).unwrap()
}

/// Trains until `n` steps are done.
fn run(trainer: &mut Trainer<FlowMatching>, drawing: Drawing, n: usize, ranks: &mut dyn Communicator) -> Vec<Step> {
    let examples = examples();
    let mut feed = Feed::new(drawing, levels(), &examples, &Device::Cpu).unwrap();
    (trainer.n_done()..n)
        .map(|step| {
            let batches = feed.batches(step, ranks.rank(), ranks.n_ranks()).unwrap();
            trainer.step(&batches, ranks).unwrap()
        })
        .collect()
}

fn alone(drawing: Drawing, recompute: Recompute) -> (Vec<Step>, Snapshot) {
    let mut trainer = trainer(&Alone, recompute);
    let steps = run(&mut trainer, drawing, 6, &mut Alone);
    (steps, trainer.snapshot(&mut Alone).unwrap())
}

fn assert_close(a: &Snapshot, b: &Snapshot, limit: f64) {
    assert_eq!(a.names, b.names);
    for (idx, name) in a.names.iter().enumerate() {
        for (a, b) in [(&a.values, &b.values), (&a.ema, &b.ema)] {
            assert!(distance(&a[idx], &b[idx]) < limit, "{name}: {:e}", distance(&a[idx], &b[idx]));
        }
    }
}

fn assert_same_bits(a: &Snapshot, b: &Snapshot) {
    assert_eq!((a.n_done, &a.names), (b.n_done, &b.names));
    for (idx, name) in a.names.iter().enumerate() {
        for (a, b) in [(&a.values, &b.values), (&a.means, &b.means), (&a.squares, &b.squares), (&a.ema, &b.ema)] {
            let bits = |it: &Tensor| floats(it).into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert!(bits(&a[idx]) == bits(&b[idx]), "{name}");
        }
    }
}

#[test]
fn accumulated_batches_are_one_larger_batch() {
    let (steps, accumulated) = alone(drawing(1, 4), Recompute::Blocks);
    let (large_steps, large) = alone(drawing(4, 1), Recompute::Nothing);
    for (a, b) in steps.iter().zip(&large_steps) {
        assert!((a.loss - b.loss).abs() < 1e-5 * b.loss && (a.norm - b.norm).abs() < 1e-5 * b.norm, "{a:?} {b:?}");
    }
    assert_close(&accumulated, &large, 1e-5);
    assert!(steps[0].rate == 0.0 && steps[2].rate == 2e-3);
    // The rate of the first step is 0; the last ones must have moved the weights.
    let (_, masters) = whole("tiny");
    assert!(distance(&accumulated.values[0], &masters[0]) > 1e-4);
    assert!(distance(&accumulated.ema[0], &accumulated.values[0]) > 1e-6);
}

#[test]
fn two_ranks_are_one_that_accumulates() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ranks");
    let meeting = Meeting::at(&path).unwrap();
    let work = |mut ranks: Local| {
        let mut trainer = trainer(&ranks, Recompute::Blocks);
        let steps = run(&mut trainer, drawing(2, 1), 6, &mut ranks);
        let snapshot = trainer.snapshot(&mut ranks).unwrap();
        // Each has a part of the running means, and both look at all of them.
        let numbers = |it: &Trainer<FlowMatching>| -> Vec<Vec<f32>> {
            it.parameters().variables().iter().map(|it| floats(it.as_tensor())).collect()
        };
        let seen = trainer.as_it_comes_out(&mut ranks, |it| Ok(numbers(it))).unwrap();
        assert!(seen == snapshot.ema.iter().map(floats).collect::<Vec<_>>());
        assert!(numbers(&trainer) == snapshot.values.iter().map(floats).collect::<Vec<_>>());
        (steps, snapshot)
    };
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| work(Local::join(&path, 1, 2).unwrap()));
        (work(meeting.gather(2).unwrap()), second.join().unwrap())
    });
    assert_eq!(first.0, second.0);
    assert_same_bits(&first.1, &second.1);
    let (steps, one) = alone(drawing(2, 2), Recompute::Blocks);
    for (a, b) in first.0.iter().zip(&steps) {
        assert!((a.loss - b.loss).abs() < 1e-6 * b.loss && (a.norm - b.norm).abs() < 1e-6 * b.norm, "{a:?} {b:?}");
    }
    assert_close(&first.1, &one, 1e-6);
}

#[test]
fn each_rank_owns_about_the_same_of_the_states() {
    assert_eq!(owners(&[4, 4, 4, 4], 2), [0, 0, 1, 1]);
    assert_eq!(owners(&[1, 1, 100], 2), [0, 0, 1]);
    assert_eq!(owners(&[100, 1, 1], 3), [1, 2, 2]);
    let sizes: Vec<usize> = whole("tiny").1.iter().map(Tensor::elem_count).collect();
    let owners = owners(&sizes, 3);
    let share = |rank| sizes.iter().zip(&owners).filter(|it| *it.1 == rank).map(|it| it.0).sum::<usize>();
    let total: usize = sizes.iter().sum();
    assert!((0..3).all(|rank| share(rank) * 3 < total * 3 / 2), "{:?}", [share(0), share(1), share(2)]);
}

#[test]
fn a_rank_that_is_elsewhere_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ranks");
    let meeting = Meeting::at(&path).unwrap();
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut ranks = Local::join(&path, 1, 2).unwrap();
            ranks.sum(&mut [1.0; 3]).unwrap_err()
        });
        let mut ranks = meeting.gather(2).unwrap();
        ranks.sum(&mut [1.0; 2]).unwrap_err().to_string()
    });
    assert!(error.contains("rank 1 is elsewhere: it sent 3 numbers, and 2 were due"), "{error}");
}

fn this_run() -> Run {
    let settings = BTreeMap::from([("seed".to_owned(), 11.into()), ("bands".to_owned(), "1,1,1,4".into())]);
    Run { model: Hash::of(b"tiny"), data: Hash::of(b"five images"), settings }
}

fn shelf(folder: &Path) -> Shelf {
    Shelf::new(folder, this_run(), 2).unwrap()
}

#[test]
fn a_run_that_is_killed_and_resumed_has_the_same_bits() {
    let (steps, whole_run) = alone(drawing(2, 2), Recompute::Blocks);
    for killed_after in [1, 3, 5] {
        let folder = tempfile::tempdir().unwrap();
        let mut first = trainer(&Alone, Recompute::Blocks);
        run(&mut first, drawing(2, 2), killed_after, &mut Alone);
        shelf(folder.path()).save(&first.snapshot(&mut Alone).unwrap(), None).unwrap();
        drop(first);

        let mut second = trainer(&Alone, Recompute::Blocks);
        let (snapshot, damaged) = shelf(folder.path()).newest().unwrap();
        assert!(damaged.is_empty());
        second.restore(&snapshot.unwrap()).unwrap();
        let rest = run(&mut second, drawing(2, 2), 6, &mut Alone);
        assert_eq!(rest, steps[killed_after..]);
        assert_same_bits(&second.snapshot(&mut Alone).unwrap(), &whole_run);
    }
}

#[test]
fn a_checkpoint_of_another_model_or_other_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = trainer(&Alone, Recompute::Nothing).snapshot(&mut Alone).unwrap();
    shelf(folder.path()).save(&snapshot, None).unwrap();
    let refusal = |run: Run| {
        let error = Shelf::new(folder.path(), run, 1).unwrap().newest().unwrap_err();
        format!("{error:#}")
    };
    let model = refusal(Run { model: Hash::of(b"another"), ..this_run() });
    assert!(model.contains("another model") && model.contains("step-00000000"), "{model}");
    let data = refusal(Run { data: Hash::of(b"six images"), ..this_run() });
    assert!(data.contains("the data has changed"), "{data}");
    let mut changed = this_run();
    changed.settings.insert("seed".to_owned(), 12.into());
    changed.settings.insert("clip".to_owned(), 1.into());
    assert!(refusal(changed.clone()).contains("other settings were used: clip, seed"), "{}", refusal(changed));
}

#[test]
fn a_damaged_checkpoint_is_named_and_an_older_one_taken() {
    let folder = tempfile::tempdir().unwrap();
    let mut snapshot = trainer(&Alone, Recompute::Nothing).snapshot(&mut Alone).unwrap();
    for step in 1..=2 {
        snapshot.n_done = step;
        shelf(folder.path()).save(&snapshot, None).unwrap();
    }
    let path = folder.path().join("step-00000002.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    // What a killed process leaves behind is no checkpoint.
    std::fs::write(folder.path().join(".unfinished-1"), "half").unwrap();
    std::fs::write(folder.path().join("step-00000003.safetensors"), "half").unwrap();
    let (found, damaged) = shelf(folder.path()).newest().unwrap();
    assert_eq!(found.unwrap().n_done, 1);
    assert!(damaged[0].contains("step-00000003") && damaged[0].contains("is no checkpoint"), "{damaged:?}");
    assert!(
        damaged.len() == 2 && damaged[1].contains("step-00000002") && damaged[1].contains("damaged"),
        "{damaged:?}"
    );
}

#[test]
fn the_last_ones_and_the_best_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut snapshot = trainer(&Alone, Recompute::Nothing).snapshot(&mut Alone).unwrap();
    for (step, loss) in [(10, 3.0), (20, 1.0), (30, 2.0), (40, 2.5), (50, 4.0)] {
        snapshot.n_done = step;
        shelf(folder.path()).save(&snapshot, Some(loss)).unwrap();
    }
    assert_eq!(shelf(folder.path()).steps().unwrap(), [50, 40, 20]);
    assert_eq!(shelf(folder.path()).best().unwrap(), Some((20, 1.0)));
    assert_eq!(shelf(folder.path()).at(20).unwrap().n_done, 20);
}

#[test]
fn a_loss_that_is_no_number_changes_nothing() {
    let mut trainer = trainer(&Alone, Recompute::Blocks);
    run(&mut trainer, drawing(1, 1), 2, &mut Alone);
    let before = trainer.snapshot(&mut Alone).unwrap();
    let examples = examples();
    let mut batches = Feed::new(drawing(1, 2), levels(), &examples, &Device::Cpu).unwrap().batches(2, 0, 1).unwrap();
    batches[1].target.x0 = (&batches[1].target.x0 * f64::NAN).unwrap();
    let error = trainer.step(&batches, &mut Alone).unwrap_err().to_string();
    assert!(error.contains("the loss of step 3 is not finite"), "{error}");
    assert_same_bits(&trainer.snapshot(&mut Alone).unwrap(), &before);
}

#[test]
fn every_pass_shows_every_example_once_in_an_order_of_its_own() {
    let examples = examples();
    let mut feed = Feed::new(drawing(1, 1), levels(), &examples, &Device::Cpu).unwrap();
    let mut passes = Vec::new();
    for pass in 0..3 {
        let mut shown = Vec::new();
        for step in 5 * pass..5 * pass + 5 {
            let batch = &feed.batches(step, 0, 1).unwrap()[0];
            let latent = floats(&batch.target.x0);
            shown.push(examples.iter().position(|it| floats(&it.latent) == latent).unwrap());
        }
        let mut sorted = shown.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 4]);
        passes.push(shown);
    }
    assert!(passes[0] != passes[1] || passes[1] != passes[2]);
    // However many share a step, and whoever asks first, its images and noise are the same.
    let mut two = Feed::new(drawing(2, 1), levels(), &examples, &Device::Cpu).unwrap();
    let mut four = Feed::new(drawing(4, 1), levels(), &examples, &Device::Cpu).unwrap();
    let whole = four.batches(7, 0, 1).unwrap().remove(0).target;
    let parts = [two.batches(7, 0, 2).unwrap().remove(0).target, two.batches(7, 1, 2).unwrap().remove(0).target];
    let joined = |of: fn(&jobctl::train::wlf::Target) -> &Tensor| {
        floats(&Tensor::cat(&[of(&parts[0]), of(&parts[1])], 0).unwrap())
    };
    assert_eq!(joined(|it| &it.x0), floats(&whole.x0));
    assert_eq!(joined(|it| &it.noise), floats(&whole.noise));
    assert_eq!([&parts[0].sigmas[..], &parts[1].sigmas[..]].concat(), whole.sigmas);
}

#[test]
fn what_is_held_out_is_looked_at_alike_each_time() {
    let examples = examples();
    let feed = Feed::new(drawing(2, 1), levels(), &examples, &Device::Cpu).unwrap();
    let trainer = trainer(&Alone, Recompute::Nothing);
    let (batches, again) = (feed.all(3).unwrap(), feed.all(3).unwrap());
    assert_eq!(batches.iter().map(|it| it.batch.timesteps.len()).sum::<usize>(), 15);
    let looked = trainer.look(&batches).unwrap();
    assert_eq!(looked, trainer.look(&again).unwrap());
    assert!(looked.losses.len() == 5 && looked.losses[0] > 0.0);
    assert_eq!(DType::F32, batches[0].batch.target.x0.dtype());
    // Each picture has as many samples, though two of its batches are not as large.
    let names: Vec<&str> = looked.pictures.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(names, ["0", "1", "2", "3", "4"]);
    let mean = looked.pictures.iter().map(|it| it.1).sum::<f64>() / 5.0;
    assert!((mean - looked.losses[0]).abs() < 1e-6 * mean, "{mean} {}", looked.losses[0]);
    let alone = Feed::new(drawing(3, 1), levels(), &examples, &Device::Cpu).unwrap().all(3).unwrap().remove(2);
    let first = trainer.look(&[alone]).unwrap().losses[0];
    assert!((first - looked.pictures[2].1).abs() < 1e-5 * first, "{first} {:?}", looked.pictures[2]);
}

#[test]
fn every_batch_is_of_one_shape_and_a_resumed_run_has_the_same() {
    let mut examples = examples();
    for it in &mut examples[3..] {
        it.latent = it.latent.permute((0, 2, 1)).unwrap().contiguous().unwrap();
    }
    // Three of one shape and two of the other, in batches of two: three batches a pass.
    let shown = |first: usize| {
        let mut feed = Feed::new(drawing(2, 1), levels(), &examples, &Device::Cpu).unwrap();
        (first..12)
            .map(|step| (feed.shown(step, 0, 1), feed.batches(step, 0, 1).unwrap().remove(0)))
            .collect::<Vec<_>>()
    };
    let whole = shown(0);
    for pass in whole.chunks(3) {
        let mut seen: Vec<usize> = pass.iter().flat_map(|it| it.0.clone()).collect();
        assert!(pass.iter().all(|it| (it.0[0] < 3) == (it.0[1] < 3)), "{seen:?}");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }
    assert!(whole.chunks(3).any(|pass| pass[0].0[0] >= 3) && whole.chunks(3).any(|pass| pass[0].0[0] < 3));
    for ((a, batch), (b, again)) in whole[5..].iter().zip(shown(5)) {
        assert_eq!(*a, b);
        assert_eq!(floats(&batch.target.noise), floats(&again.target.noise));
        assert_eq!(floats(&batch.target.x0), floats(&again.target.x0));
    }
}
