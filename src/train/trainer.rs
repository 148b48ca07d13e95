//! The loop's one step: gradients of some batches, summed over the ranks, clipped, and taken; and what a run can be
//! continued from.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::adamw::Update;
use super::exchange::{Communicator, owners};
use super::feed::Look;
use super::objective::Objective;
use super::optim::{AdamW, Rate, State, clip, global_norm};
use super::parameters::{Gradients, Parameters, Start};
pub use crate::job::task::training::Home;

/// How the weights are changed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// How many steps there will be.
    pub n_steps: usize,
    /// The learning rate.
    pub rate: Rate,
    /// The optimiser.
    pub adamw: AdamW,
    /// The longest that all gradients together may be.
    pub clip: Option<f64>,
    /// How much of the running mean of the weights is kept a step, if there is one. It is then what comes out.
    pub ema: Option<f64>,
    /// Where the optimiser's states are.
    pub home: Home,
}

impl Default for Settings {
    /// Those of the released scripts.
    fn default() -> Self {
        Self {
            n_steps: 20_000,
            rate: Rate { rate: 1e-6, warm_up: 0, course: super::optim::Course::Constant },
            adamw: AdamW::default(),
            clip: Some(1.0),
            ema: None,
            home: Home::Device,
        }
    }
}

/// What a step came to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Step {
    /// Its number, from 1.
    pub step: usize,
    /// The loss before it, over all ranks and batches.
    pub loss: f64,
    /// The loss's parts, band by band.
    pub bands: Vec<f64>,
    /// The length of all gradients together, before clipping.
    pub norm: f64,
    /// The learning rate.
    pub rate: f64,
}

/// What a look at what is held out came to.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Looked {
    /// The mean loss over all samples, then its parts.
    pub losses: Vec<f64>,
    /// The mean loss of each picture.
    pub pictures: Vec<(String, f64)>,
}

/// A model in training, on one rank.
pub struct Trainer<O> {
    objective: O,
    parameters: Parameters,
    settings: Settings,
    owners: Vec<usize>,
    /// Of the parameters that this rank owns.
    states: Vec<Option<State>>,
    ema: Vec<Option<Tensor>>,
    n_done: usize,
}

/// All that the weights' future depends on, but for the data: of every rank's parameters.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Steps done.
    pub n_done: usize,
    /// The parameters' names.
    pub names: Vec<String>,
    /// Their f32 values, in their shapes, as all tensors here.
    pub values: Vec<Tensor>,
    /// The means of their gradients.
    pub means: Vec<Tensor>,
    /// The means of their gradients' squares.
    pub squares: Vec<Tensor>,
    /// The running means of the values, if there are any.
    pub ema: Vec<Tensor>,
}

impl Snapshot {
    /// What comes out of the run as the model: the running means where there are some, else the values.
    pub fn comes_out(&self) -> &[Tensor] {
        if self.ema.is_empty() { &self.values } else { &self.ema }
    }
}

impl<O: Objective> Trainer<O> {
    /// Begins; the states are shared out among the ranks.
    ///
    /// # Errors
    /// No memory.
    pub fn new(
        objective: O,
        (parameters, masters): Start,
        settings: Settings,
        ranks: &dyn Communicator,
    ) -> Result<Self> {
        let sizes: Vec<usize> = masters.iter().map(Tensor::elem_count).collect();
        let owners = owners(&sizes, ranks.n_ranks());
        let home = match settings.home {
            Home::Device => parameters.device().clone(),
            Home::Host => Device::Cpu,
        };
        let mut states = Vec::with_capacity(masters.len());
        for (master, owner) in masters.into_iter().zip(&owners) {
            states.push(if *owner == ranks.rank() { Some(State::new(&master, &home)?) } else { None });
        }
        let ema = states.iter().map(|it| match (it, settings.ema) {
            (Some(state), Some(_)) => Ok(Some(state.parts()?[0].copy()?)),
            _ => Ok(None),
        });
        let ema = ema.collect::<Result<_>>()?;
        Ok(Self { objective, parameters, settings, owners, states, ema, n_done: 0 })
    }

    /// Steps done.
    pub fn n_done(&self) -> usize {
        self.n_done
    }

    /// What is trained.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// What it is trained for.
    pub fn objective(&self) -> &O {
        &self.objective
    }

    /// One step on the mean gradient of `batches` (as many on every rank, each of the same number of samples).
    ///
    /// # Errors
    /// A loss or a gradient that is not finite: nothing has changed then. A parameter that no gradient reaches, a rank
    /// that is gone, no memory.
    pub fn step(&mut self, batches: &[O::Batch], ranks: &mut dyn Communicator) -> Result<Step> {
        ensure!(!batches.is_empty(), "a step without a batch");
        let number = self.n_done + 1;
        let n_batches = batches.len() * ranks.n_ranks();
        let mut sums = Gradients::none(self.parameters.names().len());
        let mut told: Vec<f32> = Vec::new();
        for batch in batches {
            let losses = self.objective.gradients(&self.parameters, batch, &mut sums)?;
            let mut now = vec![losses.total.to_scalar::<f32>()?];
            now.extend(losses.bands.to_vec1::<f32>()?);
            told.resize(now.len(), 0.0);
            told.iter_mut().zip(&now).for_each(|(sum, it)| *sum += it);
        }
        let mut gradients = sums.all(self.parameters.names())?;
        ranks.sum(&mut told).context("sum the losses")?;
        if ranks.n_ranks() > 1 {
            gradients = summed(&gradients, ranks).context("sum the gradients")?;
        }
        let mean = 1.0 / n_batches as f64;
        let told: Vec<f64> = told.into_iter().map(|it| f64::from(it) * mean).collect();
        let norm = global_norm(&gradients)? * mean;
        ensure!(told[0].is_finite(), "the loss of step {number} is not finite");
        ensure!(norm.is_finite(), "the gradients of step {number} are not finite");

        let rate = self.settings.rate.at(self.n_done, self.settings.n_steps);
        let update = Update::new(&self.settings.adamw, rate, number);
        let scale = mean * clip(norm, self.settings.clip);
        for (idx, gradient) in gradients.into_iter().enumerate() {
            if let Some(state) = &self.states[idx] {
                state.step(&self.parameters.variables()[idx], &gradient, scale, &update)?;
            }
        }
        self.follow()?;
        if ranks.n_ranks() > 1 {
            self.share(ranks).context("share the weights")?;
        }
        self.n_done = number;
        Ok(Step { step: number, loss: told[0], bands: told[1..].to_vec(), norm, rate })
    }

    /// The mean loss of what is held out, without learning from it.
    ///
    /// # Errors
    /// A batch that does not fit, no memory.
    pub fn look(&self, looks: &[Look<O::Batch>]) -> Result<Looked> {
        let n_all: usize = looks.iter().map(|it| it.n).sum();
        let mut told: Vec<f64> = Vec::new();
        let mut sums: Vec<(String, f64, usize)> = Vec::new();
        for Look { of, n, batch } in looks {
            let losses = self.objective.loss(&self.parameters, batch)?;
            let mut now = vec![f64::from(losses.total.to_scalar::<f32>()?)];
            now.extend(losses.bands.to_vec1::<f32>()?.into_iter().map(f64::from));
            told.resize(now.len(), 0.0);
            told.iter_mut().zip(&now).for_each(|(sum, it)| *sum += it * (*n as f64 / n_all as f64));
            let sum = now[0] * *n as f64;
            match sums.last_mut() {
                Some(last) if last.0 == *of => (last.1, last.2) = (last.1 + sum, last.2 + n),
                _ => sums.push((of.clone(), sum, *n)),
            }
        }
        let pictures = sums.into_iter().map(|(of, sum, n)| (of, sum / n as f64)).collect();
        Ok(Looked { losses: told, pictures })
    }

    /// Does `work` with the weights that would come out now: the running means where there are some, else the values.
    /// Afterwards the model computes with the values again, to the bit. All ranks take part.
    ///
    /// # Errors
    /// Those of `work`, a rank that is gone, no memory.
    pub fn as_it_comes_out<T>(&self, ranks: &mut dyn Communicator, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        if self.settings.ema.is_none() {
            return work(self);
        }
        self.compute_with(&self.ema, ranks).context("compute with the running means")?;
        let done = work(self);
        let value = |it: &Option<State>| it.as_ref().map(|it| Ok(it.parts()?[0].clone())).transpose();
        let values = self.states.iter().map(value).collect::<Result<Vec<_>>>()?;
        self.compute_with(&values, ranks).context("compute with the values")?;
        done
    }

    /// Gives the model these numbers, of which each rank has those of the parameters that it owns.
    fn compute_with(&self, own: &[Option<Tensor>], ranks: &mut dyn Communicator) -> Result<()> {
        for (idx, (variable, own)) in self.parameters.variables().iter().zip(own).enumerate() {
            let value = match own {
                Some(own) if ranks.n_ranks() == 1 => own.clone(),
                own => {
                    let values = shared(own.clone(), variable.elem_count(), self.owners[idx], ranks)?;
                    Tensor::from_vec(values, variable.elem_count(), &Device::Cpu)?
                }
            };
            let value = value.reshape(variable.shape())?.to_dtype(variable.dtype())?;
            variable.set(&value.to_device(variable.device())?)?;
        }
        Ok(())
    }

    /// Moves the running means.
    fn follow(&mut self) -> Result<()> {
        let Some(keep) = self.settings.ema else { return Ok(()) };
        for (mean, state) in self.ema.iter_mut().zip(&self.states) {
            if let (Some(mean), Some(state)) = (mean, state) {
                let [value, ..] = state.parts()?;
                *mean = ((&*mean * keep)? + (value * (1.0 - keep))?)?;
            }
        }
        Ok(())
    }

    /// Gives every rank what the others have changed.
    fn share(&self, ranks: &mut dyn Communicator) -> Result<()> {
        for (idx, variable) in self.parameters.variables().iter().enumerate() {
            let value = match &self.states[idx] {
                Some(state) => Some(state.parts()?[0].clone()),
                None => None,
            };
            let values = shared(value, variable.elem_count(), self.owners[idx], ranks)?;
            if self.states[idx].is_none() {
                let value = Tensor::from_vec(values, variable.shape(), &Device::Cpu)?;
                variable.set(&value.to_dtype(variable.dtype())?.to_device(variable.device())?)?;
            }
        }
        Ok(())
    }

    /// What the run can be continued from, the same on every rank and on the CPU. All ranks take part.
    ///
    /// # Errors
    /// A rank that is gone, no memory.
    pub fn snapshot(&self, ranks: &mut dyn Communicator) -> Result<Snapshot> {
        let names = self.parameters.names().to_vec();
        let (values, means, squares, ema) = Default::default();
        let mut it = Snapshot { n_done: self.n_done, names, values, means, squares, ema };
        for (idx, variable) in self.parameters.variables().iter().enumerate() {
            let mut whole = |part: Option<Tensor>| -> Result<Tensor> {
                let values = shared(part, variable.elem_count(), self.owners[idx], ranks)?;
                Ok(Tensor::from_vec(values, variable.shape(), &Device::Cpu)?)
            };
            let [value, mean, square] = match &self.states[idx] {
                Some(state) => state.parts()?.map(Some),
                None => [None, None, None],
            };
            it.values.push(whole(value)?);
            it.means.push(whole(mean)?);
            it.squares.push(whole(square)?);
            if self.settings.ema.is_some() {
                it.ema.push(whole(self.ema[idx].clone())?);
            }
        }
        Ok(it)
    }

    /// Continues from a snapshot, with any number of ranks.
    ///
    /// # Errors
    /// A snapshot of other parameters, or one without the running means that are wanted.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        ensure!(snapshot.names == self.parameters.names(), "a snapshot of other parameters");
        ensure!(self.settings.ema.is_none() || !snapshot.ema.is_empty(), "a snapshot without running means");
        for (idx, variable) in self.parameters.variables().iter().enumerate() {
            let parts = [&snapshot.values[idx], &snapshot.means[idx], &snapshot.squares[idx]];
            ensure!(
                parts.iter().all(|it| it.shape() == variable.shape()),
                "a snapshot with another shape of {}",
                snapshot.names[idx]
            );
            let value = parts[0].to_dtype(variable.dtype())?.to_device(variable.device())?;
            variable.set(&value)?;
            if let Some(state) = &mut self.states[idx] {
                let home = state.device().clone();
                *state = State::of_parts(parts, &home)?;
                if self.settings.ema.is_some() {
                    self.ema[idx] = Some(snapshot.ema[idx].flatten_all()?.to_device(&home)?);
                }
            }
        }
        self.n_done = snapshot.n_done;
        Ok(())
    }
}

/// A tensor's numbers, as its owner has them.
fn shared(own: Option<Tensor>, n: usize, owner: usize, ranks: &mut dyn Communicator) -> Result<Vec<f32>> {
    let mut values = match own {
        Some(tensor) => tensor.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?,
        None => vec![0.0; n],
    };
    ranks.share(owner, &mut values)?;
    Ok(values)
}

/// The sum over all ranks, in f32.
fn summed(gradients: &[Tensor], ranks: &mut dyn Communicator) -> Result<Vec<Tensor>> {
    let mut sum = |it: &Tensor| -> Result<Tensor> {
        let mut values = it.to_dtype(DType::F32)?.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
        ranks.sum(&mut values)?;
        Ok(Tensor::from_vec(values, it.shape(), &Device::Cpu)?.to_device(it.device())?)
    };
    gradients.iter().map(&mut sum).collect()
}
