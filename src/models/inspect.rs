//! What a package holds, and what is wrong with it, without reading its weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::memory::Count;
use super::package::{Package, Part};
use super::pipeline::Sizes;
use super::text::{clip, t5};
use super::weights::{Faults, Weights};
use super::{schedule, sd3, vae};

/// A package, looked at.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Inspection {
    /// Its folder.
    pub package: PathBuf,
    /// Its components, by name.
    pub components: Vec<Component>,
    /// What its configs say against each other.
    pub contradictions: Vec<String>,
    /// Which pictures it can make; none where a config cannot be read.
    pub sizes: Option<SizeRange>,
}

/// One component of a package.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Component {
    /// Such as `transformer`.
    pub name: String,
    /// What diffusers or transformers calls it.
    pub class: String,
    /// Its files that are read, below the package.
    pub files: Vec<PathBuf>,
    /// Their bytes.
    pub bytes: u64,
    /// What its weights are stored as, with the numbers in each type; only those that are used.
    pub dtypes: BTreeMap<String, u64>,
    /// Numbers that the model has by its config; 0 for what has no weights.
    pub parameters: u64,
    /// What does not fit between its config and its tensors.
    pub faults: Faults,
    /// Why it could not be looked at.
    pub error: Option<String>,
}

/// Widths and heights of pictures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct SizeRange {
    /// Pixels of a latent pixel.
    pub factor: usize,
    /// Both sides are multiples of this.
    pub unit: usize,
    /// And no more than this.
    pub most: usize,
}

impl Inspection {
    /// Looks at a package. What is wrong with it stands in the result.
    pub fn of(package: &Package) -> Self {
        let components = package.components.iter().map(|(name, class)| Component::of(package, name, class)).collect();
        let mut contradictions = Vec::new();
        // What cannot be read is told with its component.
        contradict(package, &mut contradictions).ok();
        let range = |sizes: Sizes| SizeRange { factor: sizes.factor(), unit: sizes.unit(), most: sizes.most() };
        Self { package: package.root.clone(), components, contradictions, sizes: Sizes::of(package).ok().map(range) }
    }

    /// Whether pictures can be made with it. Surplus tensors do no harm.
    pub fn is_usable(&self) -> bool {
        self.contradictions.is_empty() && self.components.iter().all(|it| it.error.is_none() && !it.faults.are_fatal())
    }
}

impl Component {
    fn of(package: &Package, name: &str, class: &str) -> Self {
        let mut component = Self {
            name: name.to_owned(),
            class: class.to_owned(),
            files: Vec::new(),
            bytes: 0,
            dtypes: BTreeMap::new(),
            parameters: 0,
            faults: Faults::default(),
            error: None,
        };
        if let Err(error) = component.look(package) {
            component.error = Some(format!("{error:#}"));
        }
        component
    }

    fn look(&mut self, package: &Package) -> anyhow::Result<()> {
        let files = package.component_files(&self.name)?;
        for path in &files {
            self.bytes += path.metadata().with_context(|| format!("look at {}", path.display()))?.len();
            self.files.push(path.strip_prefix(&package.root).unwrap_or(path).to_owned());
        }
        let path = package.config(&self.name);
        if !make(&self.name, &path, &Weights::blueprint())? {
            return Ok(());
        }
        let weights = Weights::look(&package.weights(&self.name)?)?;
        make(&self.name, &path, &weights)?;
        self.parameters = Count::of(&weights).total;
        self.faults = weights.faults();
        let used: Vec<String> = weights.asked().into_iter().map(|(name, _)| name).collect();
        for (name, shape, dtype) in weights.stored() {
            if used.binary_search(&name).is_ok() {
                *self.dtypes.entry(format!("{dtype:?}")).or_default() += shape.iter().product::<usize>() as u64;
            }
        }
        Ok(())
    }
}

/// Makes the model of a component of `weights`, so that it asks for its tensors; false if there is no model in it.
/// A scheduler's config is read.
fn make(component: &str, config: &Path, weights: &Weights) -> anyhow::Result<bool> {
    match component {
        "transformer" => sd3::Sd3::load(&sd3::Config::read(config)?, weights).map(drop)?,
        "vae" => vae::Vae::load(&vae::Config::read(config)?, weights).map(drop)?,
        "text_encoder" | "text_encoder_2" => {
            clip::ClipText::load(&clip::Config::read(config)?, weights).map(drop)?;
        }
        "text_encoder_3" => t5::T5Encoder::load(&t5::Config::read(config)?, weights).map(drop)?,
        "scheduler" => {
            schedule::Config::read(config)?;
            return Ok(false);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Refuses a package whose configs cannot be true at the same time.
///
/// # Errors
/// A config that cannot be read; all contradictions, one a line.
pub fn check_configs(package: &Package) -> anyhow::Result<()> {
    let mut found = Vec::new();
    contradict(package, &mut found)?;
    anyhow::ensure!(found.is_empty(), "{}: {}", package.root.display(), found.join("; "));
    Ok(())
}

fn contradict(package: &Package, found: &mut Vec<String>) -> anyhow::Result<()> {
    let transformer = sd3::Config::read(&package.config("transformer"))?;
    let vae = vae::Config::read(&package.config("vae"))?;
    let mut equal = |left: (&str, usize), right: (&str, usize)| {
        if left.1 != right.1 {
            found.push(format!("{} is {}, but {} is {}", left.0, left.1, right.0, right.1));
        }
    };
    let latent = ("`latent_channels` of vae", vae.latent_channels);
    equal(("`in_channels` of transformer", transformer.in_channels), latent);
    let out = transformer.out_channels.unwrap_or(transformer.in_channels);
    equal(("`out_channels` of transformer", out), ("its `in_channels`", transformer.in_channels));
    equal(("`in_channels` of vae", vae.in_channels), ("what pictures have", 3));
    equal(("`out_channels` of vae", vae.out_channels), ("what pictures have", 3));
    let clips = ["text_encoder", "text_encoder_2"].map(|it| clip::Config::read(&package.config(it)));
    let [first, second] = clips;
    let pooled = first?.projection_dim + second?.projection_dim;
    equal(
        ("`pooled_projection_dim` of transformer", transformer.pooled_projection_dim),
        ("the sum of both CLIPs' `projection_dim`", pooled),
    );
    if package.has("text_encoder_3") {
        let width = t5::Config::read(&package.config("text_encoder_3"))?.d_model;
        let joint = ("`joint_attention_dim` of transformer", transformer.joint_attention_dim);
        equal(joint, ("`d_model` of text_encoder_3", width));
    }
    Ok(())
}

/// Every fault of a package's files in one error, for who wants no details.
///
/// # Errors
/// A file that is missing, truncated or wrong; configs that contradict each other or their tensors.
pub fn check(package: &Package) -> anyhow::Result<()> {
    for part in Part::ALL {
        package.files(part)?;
    }
    check_configs(package)?;
    for component in Inspection::of(package).components {
        let folder = package.folder(&component.name);
        if let Some(error) = component.error {
            anyhow::bail!("{error}");
        }
        anyhow::ensure!(!component.faults.are_fatal(), "{}: {}", folder.display(), component.faults);
    }
    Ok(())
}
