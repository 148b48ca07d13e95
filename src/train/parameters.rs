//! What is trained: a model's tensors as variables, and what stays as it is.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};

use super::lora::Adapters;
use crate::gpu::tape::Found;
use crate::models::weights::Weights;

/// A model's trained tensors, in the order of their names, and its fixed ones.
pub struct Parameters {
    names: Vec<String>,
    variables: Vec<Var>,
    fixed: HashMap<String, Tensor>,
    adapters: Option<Adapters>,
    device: Device,
    dtype: DType,
}

/// Parameters, and the f32 values that the optimiser starts from, in the same order.
pub type Start = (Parameters, Vec<Tensor>);

impl Parameters {
    /// Every tensor that a model asks for, out of f32 `weights`, computed with in `dtype`. Those for which `is_fixed`
    /// are not trained.
    ///
    /// # Errors
    /// Weights that lack a tensor or have one of another shape; no memory.
    pub fn whole(
        asked: &[(String, Vec<usize>)],
        weights: &Weights,
        dtype: DType,
        is_fixed: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Start> {
        let mut it = Self::empty(weights.device(), dtype);
        let mut masters = Vec::with_capacity(asked.len());
        for (name, shape) in asked {
            let tensor = weights.get(shape.as_slice(), name).with_context(|| format!("read {name}"))?;
            if is_fixed(name) {
                it.fixed.insert(name.clone(), tensor.to_dtype(dtype)?);
            } else {
                it.add(name.clone(), &tensor.to_dtype(dtype)?)?;
                masters.push(tensor.contiguous()?);
            }
        }
        weights.finish()?;
        ensure!(!it.names.is_empty(), "nothing is trained");
        Ok((it, masters))
    }

    /// Low-rank adapters beside weights that all stay as they are.
    ///
    /// # Errors
    /// Weights that lack a tensor or have one of another shape, adapters of none of them, no memory.
    pub fn adapted(
        asked: &[(String, Vec<usize>)],
        weights: &Weights,
        dtype: DType,
        adapters: Adapters,
        seed: u64,
    ) -> anyhow::Result<Start> {
        let mut it = Self::empty(weights.device(), dtype);
        for (name, shape) in asked {
            let tensor = weights.get(shape.as_slice(), name).with_context(|| format!("read {name}"))?;
            it.fixed.insert(name.clone(), tensor.to_dtype(dtype)?);
        }
        weights.finish()?;
        let mut masters = Vec::new();
        for (name, tensor) in adapters.draw(asked, seed, weights.device())? {
            it.add(name, &tensor)?;
            masters.push(tensor);
        }
        it.adapters = Some(adapters);
        Ok((it, masters))
    }

    fn empty(device: &Device, dtype: DType) -> Self {
        let (names, variables, fixed) = Default::default();
        Self { names, variables, fixed, adapters: None, device: device.clone(), dtype }
    }

    fn add(&mut self, name: String, value: &Tensor) -> Result<()> {
        self.names.push(name);
        // A variable's own memory: the optimiser keeps the f32 values apart.
        self.variables.push(Var::from_tensor(&value.contiguous()?.copy()?)?);
        Ok(())
    }

    /// The names of what is trained.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What is trained, in the order of the names.
    pub fn variables(&self) -> &[Var] {
        &self.variables
    }

    /// The adapters, if those are what is trained.
    pub fn adapters(&self) -> Option<&Adapters> {
        self.adapters.as_ref()
    }

    /// Where the model computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What the model computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Weights for a model that carries gradients to what is trained. Adapters are part of them as of now, so the model
    /// is made anew for each step; nothing is copied for that.
    ///
    /// # Errors
    /// No memory.
    pub fn live(&self) -> Result<Weights> {
        self.weights(|it| it.as_tensor().clone())
    }

    /// The same weights, in the same memory, for a model without gradients.
    ///
    /// # Errors
    /// No memory.
    pub fn still(&self) -> Result<Weights> {
        self.weights(Var::as_detached_tensor)
    }

    fn weights(&self, tensor: impl Fn(&Var) -> Tensor) -> Result<Weights> {
        let mut tensors = self.fixed.clone();
        let trained = self.names.iter().zip(&self.variables).map(|(name, it)| (name.clone(), tensor(it)));
        match &self.adapters {
            None => tensors.extend(trained),
            Some(adapters) => adapters.join(&mut tensors, &trained.collect())?,
        }
        Ok(Weights::given(tensors, &self.device, self.dtype))
    }
}

/// Gradients of what is trained, added up.
pub struct Gradients {
    sums: Vec<Option<Tensor>>,
}

impl Gradients {
    /// None yet, of so many parameters.
    pub fn none(n: usize) -> Self {
        Self { sums: vec![None; n] }
    }

    /// Takes those of `parameters` out of what a backward pass found, and adds them. The sum of several is kept in f32.
    ///
    /// # Errors
    /// No memory.
    pub fn take(&mut self, found: &mut GradStore, parameters: &Parameters) -> Result<()> {
        self.add(parameters, |variable| found.remove(variable))
    }

    /// The same of what a tape's backward pass found, and of what lies behind it in candle's graph.
    ///
    /// # Errors
    /// No memory.
    pub fn take_recorded(&mut self, found: &mut Found, parameters: &Parameters) -> Result<()> {
        self.add(parameters, |variable| found.remove(variable))?;
        match found.rest()? {
            Some(rest) => self.take(&mut rest.backward()?, parameters),
            None => Ok(()),
        }
    }

    fn add(&mut self, parameters: &Parameters, mut gradient: impl FnMut(&Var) -> Option<Tensor>) -> Result<()> {
        for (sum, variable) in self.sums.iter_mut().zip(parameters.variables()) {
            let Some(more) = gradient(variable) else { continue };
            *sum = Some(match sum.take() {
                None => more.detach(),
                Some(sum) => (sum.to_dtype(DType::F32)? + more.detach().to_dtype(DType::F32)?)?,
            });
        }
        Ok(())
    }

    /// All of them, in the order of the parameters.
    ///
    /// # Errors
    /// A parameter that got none: its name.
    pub fn all(self, names: &[String]) -> anyhow::Result<Vec<Tensor>> {
        let lacking: Vec<&str> =
            self.sums.iter().zip(names).filter(|(it, _)| it.is_none()).map(|(_, name)| name.as_str()).collect();
        ensure!(lacking.is_empty(), "no gradient reaches {}", lacking.join(", "));
        Ok(self.sums.into_iter().flatten().collect())
    }
}
