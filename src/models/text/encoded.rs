//! An encoded prompt, in memory and as a file.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

/// What the transformer is conditioned on, for one prompt. On the CPU, in f32, whatever the encoders computed in.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// A row for each token, the CLIPs' before T5's: [clip_len + t5_tokens, joint_attention_dim].
    pub context: Tensor,
    /// The CLIPs' pooled outputs side by side: [projection_dim of the first + of the second].
    pub pooled: Tensor,
    /// How many tokens of the prompt did not fit the first CLIP, the second and T5 (0 where there is none).
    pub n_cut: [usize; 3],
}

/// What a CLIP gives.
pub(super) struct ClipStates {
    /// [N, width]
    pub hidden: Tensor,
    /// [projection_dim]
    pub pooled: Tensor,
    pub n_cut: usize,
}

/// What T5 gives.
pub(super) struct T5States {
    /// [n_rows, width]; none are zeros.
    pub hidden: Option<Tensor>,
    pub n_rows: usize,
    pub width: usize,
    pub n_cut: usize,
}

impl Encoded {
    /// Puts the encoders' states together as `StableDiffusion3Pipeline.encode_prompt` of diffusers 0.42 does: the
    /// CLIPs' states side by side, widened with zeros to T5's width (or cut to it, where they are wider), then T5's.
    pub(super) fn join(first: &ClipStates, second: &ClipStates, third: &T5States) -> anyhow::Result<Self> {
        let clips = Tensor::cat(&[&first.hidden, &second.hidden], 1)?;
        let width = clips.dim(1)?;
        let clips = match third.width.checked_sub(width) {
            Some(missing) => clips.pad_with_zeros(1, 0, missing)?,
            None => clips.narrow(1, 0, third.width)?.contiguous()?,
        };
        let context = match &third.hidden {
            Some(hidden) => Tensor::cat(&[&clips, hidden], 0)?,
            None => clips.pad_with_zeros(0, 0, third.n_rows)?,
        };
        let pooled = Tensor::cat(&[&first.pooled, &second.pooled], 0)?;
        Ok(Self { context, pooled, n_cut: [first.n_cut, second.n_cut, third.n_cut] })
    }

    /// As a safetensors file: `context` and `pooled` in f32, `n_cut` in its metadata. Equal prompts give equal bytes.
    ///
    /// # Errors
    /// No memory.
    pub fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let n_cut = serde_json::to_string(&self.n_cut)?;
        let metadata = HashMap::from([("n_cut".to_owned(), n_cut)]);
        let tensors = [("context", &self.context), ("pooled", &self.pooled)];
        Ok(safetensors::serialize(tensors, Some(metadata))?)
    }

    /// What [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// No such file, or a truncated one.
    pub fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        let file = SafeTensors::deserialize(bytes).context("an encoded prompt is no safetensors file")?;
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let n_cut = header.metadata().as_ref().and_then(|it| it.get("n_cut"));
        let n_cut = serde_json::from_str(n_cut.context("an encoded prompt lacks `n_cut`")?)?;
        let tensor = |name: &str, rank: usize| -> anyhow::Result<Tensor> {
            let view = file.tensor(name).with_context(|| format!("an encoded prompt lacks `{name}`"))?;
            let is_right = view.dtype() == safetensors::Dtype::F32 && view.shape().len() == rank;
            ensure!(is_right, "an encoded prompt has `{name}` as {:?} {:?}", view.dtype(), view.shape());
            Ok(Tensor::from_raw_buffer(view.data(), DType::F32, view.shape(), &Device::Cpu)?)
        };
        Ok(Self { context: tensor("context", 2)?, pooled: tensor("pooled", 1)?, n_cut })
    }
}
