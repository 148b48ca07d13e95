//! Reads `[[finetune]]` blocks.

mod dials;
mod shown;

use super::super::block::{Block, Placed, listed, meant};
use super::super::finetune::{Finetune, Places, Point};
use super::super::resources::Wants;
use super::super::{Axis, Expand};
use super::check_keys;
use super::networks::networks;
use super::resources::wants;
use crate::job::Hash;
use crate::job::task::finetune::{Drawn, Finetune as Task, Lora, Objective, Shown, USUALLY_KEPT};
use crate::job::task::making::{Part, Precision};
use crate::job::task::training::{
    AdamW, Course, Cut, Density, Filter, Home, Keep, Loss, Place, Rate, Recompute, Rhythm, Scale, Space, Weighting,
};
use crate::metrics::{self, Metric};
use dials::Dials;

/// The keys of `[[finetune]]`.
pub(super) const KEYS: &[&str] = &[
    "name",
    "model",
    "data",
    "caption",
    "part",
    "preset",
    "loss",
    "space",
    "bands",
    "levels",
    "timesteps",
    "weighting",
    "divergence",
    "rescale",
    "steps",
    "batch",
    "accumulate",
    "learning_rate",
    "warm_up",
    "schedule",
    "weight_decay",
    "clip",
    "ema",
    "lora",
    "seed",
    "size",
    "scale",
    "crop",
    "flip",
    "filter",
    "buckets",
    "views",
    "latent",
    "data_seed",
    "min_side",
    "min_glcm_score",
    "max_glcm_score",
    "min_compression_ratio",
    "max_compression_ratio",
    "min_aesthetics",
    "max_aesthetics",
    "networks",
    "held_out",
    "look_every",
    "look_levels",
    "sample_every",
    "sample_prompts",
    "sample_steps",
    "sample_guidance",
    "save_every",
    "keep_last",
    "keep",
    "t5_tokens",
    "recompute",
    "offload",
    "dtype",
    "expand",
    "resources",
];
/// Those that mean nothing for an autoencoder.
const OF_DENOISER: &[&str] = &[
    "loss",
    "space",
    "bands",
    "levels",
    "timesteps",
    "weighting",
    "lora",
    "latent",
    "look_levels",
    "t5_tokens",
    "recompute",
    "sample_every",
    "sample_prompts",
    "sample_steps",
    "sample_guidance",
];
/// Those that mean something for an autoencoder alone.
const OF_VAE: &[&str] = &["divergence", "rescale"];

/// What a point is while its keys are read.
#[derive(Clone)]
struct Draft {
    model: Placed<String>,
    is_plain: bool,
    space: Option<Space>,
    bands: Option<Vec<f64>>,
    levels: Option<usize>,
    density: Density,
    weighting: Weighting,
    divergence: f64,
    lora: Option<Lora>,
    side: u32,
    min_side: Option<u32>,
    point: Point,
}

/// Hyper-parameters that a block starts from.
#[derive(Clone, Copy)]
enum Preset {
    /// Those of Diffusion-4K's released scripts.
    Released,
    /// Those of small models that are trained from nothing.
    Scratch,
}

/// The block, with anything in the place of what is wrong; its faults know that. `above` are the blocks above it.
pub(super) fn finetune(block: &Block, above: &[Finetune], below: &[&str], around: &Wants) -> Finetune {
    check_keys(block, KEYS);
    let name = block.required_text("name", "\"NAME\"").unwrap_or_default().value;
    let data = block.required_text("data", "\"FOLDER\"").unwrap_or_default();
    let part = block.choice("part", &[("denoiser", Part::Denoiser), ("vae", Part::Vae)]).unwrap_or(Part::Denoiser);
    let (foreign, of) = if part == Part::Vae { (OF_DENOISER, "a denoiser") } else { (OF_VAE, "an autoencoder") };
    for key in foreign.iter().filter(|it| block.get(it).is_some()) {
        let help = format!("take it out, or write `part = \"{}\"`", if part == Part::Vae { "denoiser" } else { "vae" });
        block.faults.at(&block.key_span(key), format!("`{key}` is of {of}"), help);
    }
    let presets = [("released", Preset::Released), ("scratch", Preset::Scratch)];
    let preset = block.choice("preset", &presets).unwrap_or(Preset::Released);
    let rescale = block.flag("rescale").unwrap_or(false);
    let start = start(part, preset, rescale, block);
    let mut dials = Dials::new(block, start);
    model(&mut dials, above, below);
    what_is_compared(&mut dials);
    how_weights_change(&mut dials);
    what_is_shown(&mut dials);
    let expand = block.choice("expand", &[("grid", Expand::Grid), ("zip", Expand::Zip)]).unwrap_or_default();
    let points = dials.points(expand).into_iter().map(|(label, draft)| finish(block, format!("{name}{label}"), draft));
    let points: Vec<Point> = points.collect();
    let wants = wants(block, "[finetune.resources]", around);
    let caption = block.text("caption").map(|it| it.value);
    let bounded = points.iter().flat_map(|it| &it.curation).filter_map(|it| metrics::find(&it.metric));
    let bounded: Vec<&'static Metric> = bounded.collect();
    let networks = networks(block, &bounded, &|it| format!("add `min_{it} = 5`, say, or take it out"));
    Finetune { name, data: data.value, caption, points, networks, wants, place: data.span }
}

/// What a block has that says nothing else.
fn start(part: Part, preset: Preset, rescale: bool, block: &Block) -> Draft {
    let nowhere = block.span.clone();
    let (rate, batch, accumulate, steps) = match preset {
        // 8 images on each of 2 GPUs.
        Preset::Released => (1e-6, 8, 2, 20_000),
        Preset::Scratch => (1e-3, 16, 1, 2_000),
    };
    let objective = match part {
        Part::Vae => Objective::Reconstruction { divergence: 1e-6, rescale },
        _ => Objective::Flow { loss: Loss::plain(), density: Density::default(), weighting: Weighting::None },
    };
    let task = Task {
        model: Hash([0; 32]),
        data: Shown::default(),
        held_out: Shown::default(),
        objective,
        lora: None,
        steps,
        batch,
        accumulate,
        rate: Rate { rate, warm_up: 0, course: Course::Constant },
        adamw: AdamW::default(),
        clip: Some(1.0),
        ema: None,
        seed: 0,
        rhythm: Rhythm::default(),
        keep_last: USUALLY_KEPT,
        recompute: Recompute::default(),
        home: Home::default(),
        dtype: Precision::default(),
        samples: None,
    };
    let cut = Cut { side: 0, scale: Scale::Fit, place: Place::Random, flip: true, filter: Filter::Bilinear };
    let places =
        Places { model: nowhere.clone(), size: nowhere.clone(), held_out: nowhere.clone(), lora: nowhere.clone() };
    Draft {
        model: Placed { value: String::new(), span: nowhere },
        is_plain: false,
        space: None,
        bands: None,
        levels: None,
        density: Density::default(),
        weighting: Weighting::None,
        divergence: 1e-6,
        lora: None,
        side: 0,
        min_side: None,
        point: Point {
            name: String::new(),
            model: String::new(),
            cut,
            views: 1,
            latent: Drawn::Sample,
            data_seed: 0,
            min_side: 0,
            held_out: 0,
            t5_tokens: 77,
            samples: shown::samples(block),
            curation: shown::curation(block),
            buckets: shown::buckets(block),
            task,
            places,
        },
    }
}

fn model(dials: &mut Dials, above: &[Finetune], below: &[&str]) {
    let block = dials.block();
    let models = super::making::models(block, above);
    for it in models.values.iter().filter(|it| below.contains(&it.value.as_str())) {
        let message = format!("`{}` stands below: a model starts from a package, or from a block above it", it.value);
        block.faults.at(&it.span, message, "move that block up".to_owned());
    }
    dials.add("model", models, Clone::clone, |draft, it, span| {
        draft.model = Placed { value: it.clone(), span };
    });
}

fn what_is_compared(dials: &mut Dials) {
    dials.choice("loss", &[("wlf", false), ("flow", true)], |draft, it| draft.is_plain = it);
    dials.choice("space", &[("x0", Space::X0), ("velocity", Space::Velocity)], |draft, it| draft.space = Some(it));
    dials.lists("bands", |draft, it| draft.bands = Some(it.to_vec()));
    dials.whole("levels", 1..=8, |draft, it| draft.levels = Some(it as usize));
    let densities =
        [("logit_normal", Density::default()), ("mode", Density::Mode { scale: 1.29 }), ("uniform", Density::Uniform)];
    dials.choice("timesteps", &densities, |draft, it| draft.density = it);
    let weightings = [("none", Weighting::None), ("sigma_sqrt", Weighting::SigmaSqrt), ("cosmap", Weighting::Cosmap)];
    dials.choice("weighting", &weightings, |draft, it| draft.weighting = it);
    dials.number("divergence", "a number of at least 0", |it| it >= 0.0, |draft, it| draft.divergence = it);
    dials.lora("lora", |draft, it, span| {
        draft.lora = Some(it);
        draft.point.places.lora = span;
    });
}

fn how_weights_change(dials: &mut Dials) {
    let positive = |it: f64| it > 0.0;
    dials.whole("steps", 1..=100_000_000, |draft, it| draft.point.task.steps = it as u32);
    dials.whole("batch", 1..=65_536, |draft, it| draft.point.task.batch = it as u32);
    dials.whole("accumulate", 1..=65_536, |draft, it| draft.point.task.accumulate = it as u32);
    dials.number("learning_rate", "a number above 0", positive, |draft, it| draft.point.task.rate.rate = it);
    dials.whole("warm_up", 0..=100_000_000, |draft, it| draft.point.task.rate.warm_up = it as usize);
    let courses = [("constant", Course::Constant), ("linear", Course::Linear), ("cosine", Course::Cosine)];
    dials.choice("schedule", &courses, |draft, it| draft.point.task.rate.course = it);
    dials.number(
        "weight_decay",
        "a number of at least 0",
        |it| it >= 0.0,
        |draft, it| draft.point.task.adamw.weight_decay = it,
    );
    dials.number(
        "clip",
        "a number of at least 0",
        |it| it >= 0.0,
        |draft, it| {
            draft.point.task.clip = (it > 0.0).then_some(it);
        },
    );
    dials.number(
        "ema",
        "a number from 0 on, below 1",
        |it| (0.0..1.0).contains(&it),
        |draft, it| {
            draft.point.task.ema = (it > 0.0).then_some(it);
        },
    );
    dials.whole("seed", 0..=i64::MAX.into(), |draft, it| draft.point.task.seed = it as u64);
    let dtypes = [("bf16", Precision::Bf16), ("f32", Precision::F32)];
    dials.choice("dtype", &dtypes, |draft, it| draft.point.task.dtype = it);
    let block = dials.block();
    let start = dials.start();
    let task = &mut start.point.task;
    let whole = |key: &str, low: i128| block.integer(key, low..=100_000_000);
    let every = |it: Option<i128>, default: usize| it.map_or(default, |it| it as usize);
    task.rhythm.save_every = every(whole("save_every", 1), task.rhythm.save_every);
    task.rhythm.look_every = every(whole("look_every", 1), task.rhythm.look_every);
    task.rhythm.n_levels = every(whole("look_levels", 1), task.rhythm.n_levels);
    task.keep_last = block.integer("keep_last", 1..=1_000_000).map_or(task.keep_last, |it| it as u32);
    task.rhythm.keep = block.choice("keep", &[("last", Keep::Last), ("best", Keep::Best)]).unwrap_or_default();
    let recompute = [("blocks", Recompute::Blocks), ("nothing", Recompute::Nothing)];
    task.recompute = block.choice("recompute", &recompute).unwrap_or_default();
    task.home = if block.flag("offload").unwrap_or(false) { Home::Host } else { Home::Device };
}

fn what_is_shown(dials: &mut Dials) {
    if dials.block().get("size").is_none() {
        dials.block().missing("size", "1024");
    }
    dials.sides("size", |draft, it, span| {
        draft.side = it;
        draft.point.places.size = span;
    });
    dials.choice("scale", &[("fit", Scale::Fit), ("native", Scale::Native)], |draft, it| draft.point.cut.scale = it);
    dials.choice("crop", &[("random", Place::Random), ("centre", Place::Centre)], |draft, it| {
        draft.point.cut.place = it;
    });
    let filters = [
        ("box", Filter::Box),
        ("bilinear", Filter::Bilinear),
        ("bicubic", Filter::Bicubic),
        ("lanczos", Filter::Lanczos),
    ];
    dials.choice("filter", &filters, |draft, it| draft.point.cut.filter = it);
    dials.choice("latent", &[("sample", Drawn::Sample), ("mean", Drawn::Mean)], |draft, it| draft.point.latent = it);
    dials.whole("views", 1..=100_000, |draft, it| draft.point.views = it as u32);
    dials.whole("t5_tokens", 0..=512, |draft, it| draft.point.t5_tokens = it as u32);
    let block = dials.block();
    let start = dials.start();
    start.point.cut.flip = block.flag("flip").unwrap_or(true);
    start.point.data_seed = block.integer("data_seed", 0..=i64::MAX.into()).map_or(0, |it| it as u64);
    start.min_side = block.integer("min_side", 0..=65_500).map(|it| it as u32);
    if let Some(n) = block.integer("held_out", 0..=1_000_000) {
        start.point.held_out = n as u32;
        start.point.places.held_out = block.get("held_out").map_or_else(|| block.span.clone(), toml::Spanned::span);
    }
}

/// The point that a draft comes to.
fn finish(block: &Block, name: String, draft: Draft) -> Point {
    let Draft { mut point, .. } = draft;
    point.name = name;
    point.places.model = draft.model.span;
    point.model = draft.model.value;
    point.cut.side = draft.side;
    point.min_side = draft.min_side.unwrap_or(draft.side);
    let span = |key: &str| block.get(key).map_or_else(|| block.span.clone(), toml::Spanned::span);
    match &mut point.task.objective {
        Objective::Reconstruction { divergence, .. } => *divergence = draft.divergence,
        Objective::Flow { loss, density, weighting } => {
            (*density, *weighting) = (draft.density, draft.weighting);
            let levels = draft.levels.unwrap_or(1);
            *loss = if draft.is_plain {
                for key in ["space", "bands", "levels"].into_iter().filter(|it| block.get(it).is_some()) {
                    let help = "take it out, or write `loss = \"wlf\"`".to_owned();
                    block.faults.at(&block.key_span(key), format!("plain flow matching has no `{key}`"), help);
                }
                Loss::plain()
            } else {
                let bands = draft.bands.unwrap_or_else(|| vec![1.0; 3 * levels + 1]);
                Loss { space: draft.space.unwrap_or(Space::X0), bands }
            };
            match loss.n_levels() {
                Err(error) => block.faults.at(&span("bands"), error.to_string(), None),
                Ok(n) if draft.levels.is_some_and(|it| it != n) => {
                    let n_bands = loss.bands.len();
                    let message = format!("{n_bands} bands are of {n} levels, and `levels` says {levels}");
                    block.faults.at(&span("bands"), message, format!("{levels} levels have {} bands", 3 * levels + 1));
                }
                Ok(_) => {}
            }
        }
    }
    if let Some(lora) = draft.lora {
        point.task.lora = Some(lora);
    }
    let task = &point.task;
    if task.rhythm.keep == Keep::Best && point.held_out == 0 {
        let help = "write `held_out = 8`, say, or take `keep` out".to_owned();
        block.faults.at(
            &span("keep"),
            "the best weights are those with the least loss on what is held out: nothing is",
            help,
        );
    }
    if task.rate.warm_up as u64 > u64::from(task.steps) {
        let message = format!("`warm_up` is {}, longer than the {} steps", task.rate.warm_up, task.steps);
        block.faults.at(&span("warm_up"), message, None);
    }
    point
}

/// The points that a block's name stands for in a list of models, and other values as they are.
pub(super) fn expanded(models: Axis<Placed<String>>, above: &[Finetune], block: &Block) -> Axis<Placed<String>> {
    let mut varies = models.varies;
    let mut values = Vec::with_capacity(models.values.len());
    for it in models.values {
        let Some(found) = above.iter().find(|block| block.name == it.value) else {
            let near = above.iter().find(|block| it.value.starts_with(&format!("{} ", block.name)));
            if let Some(near) = near.filter(|near| near.points.iter().all(|point| point.name != it.value)) {
                let names = near.points.iter().map(|it| it.name.as_str());
                let help = meant(&it.value, names.clone()).unwrap_or_else(|| format!("there is {}", listed(names)));
                block.faults.at(&it.span, format!("`{}` has no such point", near.name), help);
            }
            values.push(it);
            continue;
        };
        varies |= found.points.len() > 1;
        values.extend(found.points.iter().map(|point| Placed { value: point.name.clone(), span: it.span.clone() }));
    }
    Axis { values, varies }
}
