//! Flow matching with Stable Diffusion 3's transformer.

use anyhow::Context;
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::objective::Objective;
use super::parameters::{Gradients, Parameters};
use super::wlf::{Loss, Losses, Space, Target};
use crate::gpu::attention::{recording, replaying};
use crate::gpu::tape::{record, seeded};
pub use crate::job::task::training::Recompute;
use crate::models::sd3::{Config, Sd3, Streams};

/// The positional table, which diffusers does not train either.
pub const FIXED: &str = "pos_embed.pos_embed";

/// Flow matching.
pub struct FlowMatching {
    /// The transformer's.
    pub config: Config,
    /// The loss.
    pub loss: Loss,
    /// What is computed twice.
    pub recompute: Recompute,
}

/// Images of one size, with their texts and noise.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Latents, noise and noise levels.
    pub target: Target,
    /// What the model is told of each image's noise level, 0 to 1000.
    pub timesteps: Vec<f32>,
    /// The texts' states [B, L, joint].
    pub context: Tensor,
    /// The pooled texts [B, P].
    pub pooled: Tensor,
}

/// A batch as the model takes it.
struct Input {
    latent: Tensor,
    size: (usize, usize),
    context: Tensor,
    pooled: Tensor,
}

impl Input {
    fn new(batch: &Batch, parameters: &Parameters) -> anyhow::Result<Self> {
        let dtype = parameters.dtype();
        let latent = batch.target.noisy()?.to_dtype(dtype)?;
        let (_, _, height, width) = latent.dims4()?;
        let (context, pooled) = (batch.context.to_dtype(dtype)?, batch.pooled.to_dtype(dtype)?);
        Ok(Self { latent, size: (height, width), context, pooled })
    }

    fn embed(&self, model: &Sd3, batch: &Batch) -> candle_core::Result<(Streams, Tensor)> {
        model.embed(&self.latent, &batch.timesteps, &self.context, &self.pooled)
    }
}

impl FlowMatching {
    fn forward(&self, model: &Sd3, input: &Input, batch: &Batch) -> anyhow::Result<Losses> {
        let (mut streams, condition) = input.embed(model, batch)?;
        for idx in 0..model.n_blocks() {
            streams = model.block(idx, &streams, &condition)?;
        }
        self.loss.of(&model.finish(&streams.image, &condition, input.size)?, &batch.target)
    }

    /// Forward without a graph, keeping what goes into each block and what its attentions come to; then backward block by
    /// block, each with a tape of its own that begins at its inputs.
    fn by_blocks(&self, parameters: &Parameters, batch: &Batch, into: &mut Gradients) -> anyhow::Result<Losses> {
        let input = Input::new(batch, parameters)?;
        let (live, still) =
            (Sd3::load(&self.config, &parameters.live()?)?, Sd3::load(&self.config, &parameters.still()?)?);
        let (mut streams, condition) = input.embed(&still, batch)?;
        let mut inputs = Vec::with_capacity(still.n_blocks());
        for idx in 0..still.n_blocks() {
            let (next, attended) = recording(|| still.block(idx, &streams, &condition));
            inputs.push((streams, attended));
            streams = next?;
        }

        let (image, told) = (Var::from_tensor(&streams.image)?, Var::from_tensor(&condition)?);
        let losses = self.loss.of(&live.finish(&image, &told, input.size)?, &batch.target)?;
        let mut found = losses.total.backward()?;
        into.take(&mut found, parameters)?;
        let mut d_image = of(&mut found, &image)?;
        let mut d_condition = of(&mut found, &told)?;
        // Nothing looks at the text after the last block.
        let mut d_text: Option<Tensor> = None;
        drop(streams);

        for (idx, (streams, attended)) in inputs.into_iter().enumerate().rev() {
            let roots = [&streams.image, &streams.text, &condition];
            let block = || record(&roots, || live.block(idx, &streams, &condition));
            let (after, tape) = replaying(attended, block)?;
            let mut outputs = vec![(&after.image, &d_image)];
            outputs.extend(d_text.as_ref().map(|it| (&after.text, it)));
            let mut found = tape.backward(&outputs)?;
            into.take_recorded(&mut found, parameters)?;
            let [of_image, of_text, of_condition] = roots.map(|it| found.remove(it).context(UNUSED));
            (d_image, d_text) = (of_image?, Some(of_text?));
            d_condition = (d_condition + of_condition?)?;
        }

        let (streams, condition) = input.embed(&live, batch)?;
        let d_text = d_text.context("a transformer without blocks")?;
        let outputs = [(&streams.image, &d_image), (&streams.text, &d_text), (&condition, &d_condition)];
        // Adapters may leave nothing to learn before the first block.
        if outputs.iter().any(|(it, _)| it.track_op()) {
            let scalar = seeded(&outputs)?.context("nothing was embedded")?;
            into.take(&mut scalar.backward()?, parameters)?;
        }
        Ok(losses.detached())
    }
}

const UNUSED: &str = "a block's output does not depend on its input";

/// The gradient of an input.
fn of(found: &mut GradStore, input: &Var) -> anyhow::Result<Tensor> {
    Ok(found.remove(input).context(UNUSED)?.detach())
}

impl Objective for FlowMatching {
    type Batch = Batch;

    fn gradients(&self, parameters: &Parameters, batch: &Batch, into: &mut Gradients) -> anyhow::Result<Losses> {
        if self.recompute == Recompute::Blocks {
            return self.by_blocks(parameters, batch, into);
        }
        let model = Sd3::load(&self.config, &parameters.live()?)?;
        let losses = self.forward(&model, &Input::new(batch, parameters)?, batch)?;
        into.take(&mut losses.total.backward()?, parameters)?;
        Ok(losses.detached())
    }

    fn loss(&self, parameters: &Parameters, batch: &Batch) -> anyhow::Result<Losses> {
        let model = Sd3::load(&self.config, &parameters.still()?)?;
        self.forward(&model, &Input::new(batch, parameters)?, batch)
    }
}

/// Learns with one loss and is looked at with another, so that models that learn in different ways can be compared.
pub struct Compared {
    /// What is learnt with.
    pub learnt: FlowMatching,
    /// What is looked at with.
    pub looked: FlowMatching,
}

impl Compared {
    /// Looked at with plain flow matching, band by band where `learnt` has bands.
    pub fn plainly(learnt: FlowMatching) -> Self {
        let loss = Loss { space: Space::Velocity, bands: vec![1.0; learnt.loss.bands.len()] };
        let looked = FlowMatching { config: learnt.config.clone(), loss, recompute: learnt.recompute };
        Self { learnt, looked }
    }
}

impl Objective for Compared {
    type Batch = Batch;

    fn gradients(&self, parameters: &Parameters, batch: &Batch, into: &mut Gradients) -> anyhow::Result<Losses> {
        self.learnt.gradients(parameters, batch, into)
    }

    fn loss(&self, parameters: &Parameters, batch: &Batch) -> anyhow::Result<Losses> {
        self.looked.loss(parameters, batch)
    }
}
