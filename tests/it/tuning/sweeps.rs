//! `[[finetune]]` blocks: what they come to, and which jobs they make.

use jobctl::job::task::Task;
use jobctl::job::task::finetune::Objective;
use jobctl::job::task::making::Part;
use jobctl::job::task::training::{Loss, Scale, Space};
use jobctl::sweep::Sweep;

const EVALUATE: &str = "[evaluate]\nmetrics = ['glcm_score']\n";

fn parse(text: &str) -> Sweep {
    Sweep::parse(text, "t.toml").unwrap_or_else(|it| panic!("{it}"))
}

/// A block with these keys beside those that it must have.
fn block(keys: &str) -> String {
    format!("name = 't'\n[[finetune]]\nname = 'b'\nmodel = 'P'\ndata = 'd'\nsize = 512\n{keys}\n")
}

fn loss(keys: &str) -> Loss {
    match &parse(&block(keys)).finetune[0].points[0].task.objective {
        Objective::Flow { loss, .. } => loss.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_block_does_not_say_is_what_was_released() {
    let sweep = parse(&block(""));
    let point = &sweep.finetune[0].points[0];
    let task = &point.task;
    assert_eq!((task.rate.rate, task.rate.warm_up, task.steps, task.seed), (1e-6, 0, 20_000, 0));
    assert_eq!(task.batch * task.accumulate, 16);
    assert_eq!((task.clip, task.ema, task.adamw.weight_decay), (Some(1.0), None, 1e-4));
    assert_eq!((point.t5_tokens, point.min_side, point.held_out, point.cut.flip), (77, 512, 0, true));
    assert_eq!(loss(""), Loss { space: Space::X0, bands: vec![1.0; 4] });
    assert_eq!(point.part(), Part::Denoiser);
}

#[test]
fn losses_are_made_of_their_keys() {
    assert_eq!(loss("loss = 'flow'"), Loss::plain());
    assert_eq!(loss("levels = 2").bands, vec![1.0; 7]);
    let velocity = loss("space = 'velocity'\nbands = [1, 2, 2, 4.5]");
    assert_eq!(velocity, Loss { space: Space::Velocity, bands: vec![1.0, 2.0, 2.0, 4.5] });
}

#[test]
fn lists_are_axes_and_name_the_points() {
    let sweep =
        parse(&block("bands = [[1, 1, 1, 1], [1, 2, 2, 4]]\nseed = [0, 1]\nlora = { rank = 8 }\nscale = 'native'"));
    let names: Vec<&str> = sweep.finetune[0].points.iter().map(|it| it.name.as_str()).collect();
    let expected = [
        "b bands=[1, 1, 1, 1] seed=0",
        "b bands=[1, 1, 1, 1] seed=1",
        "b bands=[1, 2, 2, 4] seed=0",
        "b bands=[1, 2, 2, 4] seed=1",
    ];
    assert_eq!(names, expected);
    let last = &sweep.finetune[0].points[3];
    let lora = last.task.lora.unwrap();
    assert_eq!((last.task.seed, lora.rank, lora.alpha, last.cut.scale), (1, 8, 8.0, Scale::Native));
    let zipped = parse(&block("steps = [10, 20]\nseed = [3, 4]\nexpand = 'zip'"));
    let points: Vec<(u32, u64)> = zipped.finetune[0].points.iter().map(|it| (it.task.steps, it.task.seed)).collect();
    assert_eq!(points, [(10, 3), (20, 4)]);
}

#[test]
fn what_steers_watching_and_saving_is_in_no_key() {
    let key = |keys: &str| {
        let task = parse(&block(&format!("held_out = 2\n{keys}"))).finetune[0].points[0].task.clone();
        Task::Finetune(Box::new(task)).key()
    };
    let plain = key("");
    for same in ["save_every = 7", "keep_last = 9", "look_every = 3", "keep = 'last'"] {
        assert_eq!(key(same), plain, "{same}");
    }
    let best = key("keep = 'best'");
    assert!(best != plain && key("look_levels = 3") != plain && key("steps = 7") != plain);
    assert_eq!(key("keep = 'best'\nsave_every = 7\nkeep_last = 9"), best);
    assert!(key("keep = 'best'\nlook_every = 3") != best, "when it looks decides which weights are the best");
}

#[test]
fn pictures_are_those_that_a_block_holds_out() {
    let images = |of: &str| format!("[[images]]\nname = 'i'\npath = 'd'\nheld_out_of = '{of}'\n");
    let sweep = |of: &str, keys: &str| {
        let text = block(keys) + &images(of) + EVALUATE;
        Sweep::parse(&text, "t.toml").map_err(|it| it.to_string())
    };
    assert_eq!(sweep("b", "held_out = 2").unwrap().images[0].held_out_of, Some(0));
    let unknown = sweep("bb", "held_out = 2").unwrap_err();
    assert!(unknown.contains("no [[finetune]] block is called `bb`") && unknown.contains("`b`"), "{unknown}");
    assert!(sweep("b", "").unwrap_err().contains("nothing is held out"));
}

#[test]
fn the_best_of_nothing_is_a_fault_with_its_place() {
    let text = format!("{}{EVALUATE}", block("keep = 'best'"));
    let said = Sweep::parse(&text, "t.toml").unwrap_err().to_string();
    assert!(said.contains("held out: nothing is") && said.contains("`held_out = 8`"), "{said}");
}

#[test]
fn a_block_s_name_stands_for_all_its_models() {
    let first = block("steps = [10, 20]");
    let second = "[[finetune]]\nname = 'c'\nmodel = 'b'\ndata = 'd'\nsize = 512\n";
    let made = "[[generate]]\nname = 'g'\nmodel = ['P', 'c', 'b steps=10']\nprompts = ['a']\nsize = 512\n";
    let sweep = parse(&format!("{first}{second}{made}{EVALUATE}"));
    let models = ["P", "c model=b steps=10", "c model=b steps=20", "b steps=10"];
    assert_eq!(sweep.generate[0].model.values, models);
    assert_eq!(sweep.root("c model=b steps=20"), "P");
    let labels: Vec<String> = sweep.generate[0].points().into_iter().map(|it| it.label).collect();
    assert_eq!(labels[1], " model=c model=b steps=10");
}
