//! Attention by cuDNN's fused kernels, as a differentiable operation of candle.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, SyncOnDrop,
};
use candle_core::cuda_backend::{CudaDType, CudaDevice, DeviceId};
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CudaStorage, CustomOp3, DType, Device, Layout, Result, Shape, Storage, Tensor};
use half::{bf16, f16};

use super::Recording;
use super::cudnn::{Address, DataType, Handle, Layout4, Plan};
use super::graph::{self, Shape as Plane};
use crate::gpu::tape;

/// The widest heads that the engines take.
const WIDEST: usize = 256;
/// Numbers in 16 bytes, which rows must be aligned to.
const ALIGNED: usize = 8;

/// softmax(scale · q·kᵀ) · v, as [`super::attention`]; none where the fused kernels don't apply.
///
/// # Errors
/// No memory, or a kernel that failed.
pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Option<Tensor>> {
    let (dq, dk, dv) = (q.dims4()?, k.dims4()?, v.dims4()?);
    // cuDNN is told addresses alone: whatever does not fit together must not come as far.
    let fits = (dq.0, dq.1, dq.3) == (dk.0, dk.1, dk.3) && (dk.0, dk.1, dk.2) == (dv.0, dv.1, dv.2);
    if !fits || !suits([q, k, v], [dq.3, dv.3]) {
        return Ok(None);
    }
    let (q, k, v) = (aligned(q)?, aligned(k)?, aligned(v)?);
    let [at_q, at_k, at_v] = [&q, &k, &v].map(|it| layout4(it.layout()));
    let plane = Plane { q: at_q?, k: at_k?, v: at_v?, dtype: data_type(q.dtype()), inside: false };
    let out = (dq.0, dq.2, dq.1, dv.3).into();
    run(&q, &k, &v, Fused::new(scale, plane, out))?.map(|it| it.transpose(1, 2)).transpose()
}

/// The same of heads that stand side by side, as [`super::multi_head`].
///
/// # Errors
/// No memory, or a kernel that failed.
pub(super) fn multi_head(q: &Tensor, k: &Tensor, v: &Tensor, n_heads: usize, scale: f64) -> Result<Option<Tensor>> {
    let (dq, dk, dv) = (q.dims3()?, k.dims3()?, v.dims3()?);
    let head = dq.2 / n_heads;
    if (dq.0, dq.2) != (dk.0, dk.2) || dk != dv || !suits([q, k, v], [head, head]) {
        return Ok(None);
    }
    let (q, k, v) = (tape::contiguous(q)?, tape::contiguous(k)?, tape::contiguous(v)?);
    if [&q, &k, &v].iter().any(|it| it.layout().start_offset() % ALIGNED != 0) {
        return Ok(None);
    }
    let inside = |n: usize| Layout4::heads_inside([dq.0, n_heads, n, head].map(|it| it as i64));
    let plane = Plane { q: inside(dq.1), k: inside(dk.1), v: inside(dv.1), dtype: data_type(q.dtype()), inside: true };
    run(&q, &k, &v, Fused::new(scale, plane, dq.into()))
}

/// Whether the engines take tensors of these types, with heads of these widths.
fn suits(tensors: [&Tensor; 3], widths: [usize; 2]) -> bool {
    let dtype = tensors[0].dtype();
    matches!(dtype, DType::BF16 | DType::F16)
        && tensors.iter().all(|it| it.device().is_cuda() && it.dtype() == dtype && it.elem_count() > 0)
        && widths.iter().all(|it| it % ALIGNED == 0 && *it <= WIDEST)
}

/// Runs the operation, if cuDNN has plans for it.
fn run(q: &Tensor, k: &Tensor, v: &Tensor, mut fused: Fused) -> Result<Option<Tensor>> {
    let Device::Cuda(device) = q.device() else { return Ok(None) };
    let is_tracked = [q, k, v].into_iter().any(tape::is_wanted);
    let scene = SCENE.take();
    let is_recorded = matches!(scene, Scene::Recording(_));
    fused.keeps = is_tracked || is_recorded;
    let mut passes = vec![if fused.keeps { Pass::Training } else { Pass::Inference }];
    passes.extend(is_tracked.then_some(Pass::Backward));
    for pass in passes {
        if !on(device, |engine| Ok(engine.plan(pass, fused.plane).is_some()))? {
            SCENE.set(scene);
            return Ok(None);
        }
    }
    let kept = fused.kept.clone();
    let scene = match scene {
        Scene::Replaying(mut recorded) => {
            *locked(&kept) = recorded.pop_front();
            Scene::Replaying(recorded)
        }
        other => other,
    };
    let out = tape::op3(q, k, v, fused);
    SCENE.set(match (scene, &out) {
        (Scene::Recording(mut recorded), Ok(out)) => {
            let rows = locked(&kept).take().map(|it| it.rows);
            recorded.extend(rows.map(|rows| Kept { out: Some(out.detach()), rows }));
            Scene::Recording(recorded)
        }
        (other, _) => other,
    });
    out.map(Some)
}

/// What a forward pass keeps.
pub(super) struct Kept {
    /// Its result, where it is not to be computed again.
    out: Option<Tensor>,
    /// The logarithms of the rows' sums, for the backward pass.
    rows: CudaSlice<f32>,
}

/// What becomes of attentions on this thread.
#[derive(Default)]
enum Scene {
    /// They are computed.
    #[default]
    Plain,
    /// They are computed and kept.
    Recording(VecDeque<Kept>),
    /// They were kept.
    Replaying(VecDeque<Kept>),
}

thread_local! {
    static SCENE: Cell<Scene> = Cell::default();
}

/// See [`super::recording`].
pub(super) fn recording<T>(work: impl FnOnce() -> T) -> (T, Recording) {
    let before = SCENE.replace(Scene::Recording(VecDeque::new()));
    let done = work();
    let kept = match SCENE.replace(before) {
        Scene::Recording(kept) => kept,
        _ => VecDeque::new(),
    };
    (done, Recording { kept })
}

/// See [`super::replaying`].
pub(super) fn replaying<T>(recording: Recording, work: impl FnOnce() -> T) -> T {
    let before = SCENE.replace(Scene::Replaying(recording.kept));
    let done = work();
    SCENE.set(before);
    done
}

fn locked(kept: &Mutex<Option<Kept>>) -> MutexGuard<'_, Option<Kept>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `x`, or a copy whose rows can be read 16 bytes at a time.
fn aligned(x: &Tensor) -> Result<Tensor> {
    let layout = x.layout();
    let [strides @ .., last] = layout.stride() else { return x.contiguous() };
    let is_fine = *last == 1
        && layout.start_offset() % ALIGNED == 0
        && strides.iter().zip(layout.dims()).all(|(it, n)| it % ALIGNED == 0 && (*it > 0 || *n == 1));
    if is_fine { Ok(x.clone()) } else { x.contiguous() }
}

fn layout4(layout: &Layout) -> Result<Layout4> {
    let dims = layout.shape().dims4()?;
    let signed = |it: &[usize]| -> [i64; 4] { std::array::from_fn(|axis| it[axis] as i64) };
    Ok(Layout4 { dims: signed(&[dims.0, dims.1, dims.2, dims.3]), strides: signed(layout.stride()) })
}

fn data_type(dtype: DType) -> DataType {
    if dtype == DType::F16 { DataType::CUDNN_DATA_HALF } else { DataType::CUDNN_DATA_BFLOAT16 }
}

/// What a plan computes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Pass {
    Inference,
    /// The forward pass that keeps what the backward pass needs.
    Training,
    Backward,
}

/// cuDNN on one device, and the plans made so far; none where it refused.
struct Engine {
    // Plans go before the handle that they were made with.
    plans: HashMap<(Pass, Plane), Option<Rc<Plan>>>,
    handle: Handle,
    // The handle's work goes there.
    stream: Arc<CudaStream>,
}

thread_local! {
    /// cuDNN's handles belong to one thread each.
    static ENGINES: RefCell<HashMap<DeviceId, Engine>> = RefCell::default();
}

/// What `work` makes of cuDNN on this device.
fn on<T>(device: &CudaDevice, work: impl FnOnce(&mut Engine) -> Result<T>) -> Result<T> {
    ENGINES.with_borrow_mut(|engines| match engines.entry(device.id()) {
        Entry::Occupied(mut engine) => work(engine.get_mut()),
        Entry::Vacant(place) => {
            let stream = device.cuda_stream();
            let handle = Handle::new(&stream)?;
            work(place.insert(Engine { plans: HashMap::new(), handle, stream }))
        }
    })
}

impl Engine {
    fn plan(&mut self, pass: Pass, plane: Plane) -> Option<Rc<Plan>> {
        let handle = &self.handle;
        let plan = self.plans.entry((pass, plane)).or_insert_with(|| {
            let plan = match pass {
                Pass::Inference => graph::forward(handle, &plane, false),
                Pass::Training => graph::forward(handle, &plane, true),
                Pass::Backward => graph::backward(handle, &plane),
            };
            match plan {
                Ok(plan) => Some(Rc::new(plan)),
                Err(error) => {
                    let (q, k) = (plane.q.dims, plane.k.dims);
                    tracing::warn!(?pass, ?q, ?k, %error, "attention goes block by block, as cuDNN refuses it");
                    None
                }
            }
        });
        plan.clone()
    }

    /// Starts a plan that exists.
    fn start(&mut self, device: &CudaDevice, pass: Pass, plane: Plane, io: &[Address]) -> Result<()> {
        let Some(plan) = self.plan(pass, plane) else {
            candle_core::bail!("cuDNN has no plan for attention of {:?}", plane.q.dims);
        };
        let mut scratch = buffer::<u8>(device, plan.workspace.max(16))?;
        let (pointer, _guard) = scratch.device_ptr_mut(&self.stream);
        #[expect(unsafe_code, reason = "the caller's addresses are of tensors of this very plane, on this stream")]
        unsafe {
            plan.start(&self.handle, io, Address::device(pointer))
        }
    }
}

/// Memory of the device that nothing has written to.
fn buffer<T: DeviceRepr>(device: &CudaDevice, n: usize) -> Result<CudaSlice<T>> {
    #[expect(unsafe_code, reason = "whoever asks has cuDNN write all of it before anyone reads it")]
    unsafe {
        device.alloc::<T>(n)
    }
}

/// The address of a tensor's first number, and what tells the stream when it was used.
fn address<'a, T: CudaDType + DeviceRepr + 'a>(
    storage: &'a CudaStorage,
    first: usize,
    stream: &'a CudaStream,
) -> Result<(Address, SyncOnDrop<'a>)> {
    let (pointer, guard) = storage.as_cuda_slice::<T>()?.device_ptr(stream);
    Ok((Address::device(pointer + (first * size_of::<T>()) as u64), guard))
}

/// The operation; its result lies in memory as [B, N, H, E].
struct Fused {
    scale: f32,
    plane: Plane,
    out: Shape,
    /// Whether what the backward pass needs is kept.
    keeps: bool,
    /// From the forward pass for the backward one, or from an earlier forward pass for this one.
    kept: Arc<Mutex<Option<Kept>>>,
}

impl Fused {
    fn new(scale: f64, plane: Plane, out: Shape) -> Self {
        Self { scale: scale as f32, plane, out, keeps: false, kept: Arc::default() }
    }

    fn forward<T: CudaDType + DeviceRepr + 'static>(
        &self,
        parts: [(&CudaStorage, &Layout); 3],
    ) -> Result<(CudaStorage, Shape)> {
        if let Some(out) = locked(&self.kept).as_mut().and_then(|it| it.out.take()) {
            let (storage, layout) = out.storage_and_layout();
            let Storage::Cuda(storage) = &*storage else { candle_core::bail!("attention was not kept on CUDA") };
            return Ok((storage.try_clone(layout)?, self.out.clone()));
        }
        let [(q, _), ..] = parts;
        let device = q.device.clone();
        let [b, h, n, _] = self.plane.out().dims.map(|it| it as usize);
        let mut out = buffer::<T>(&device, self.out.elem_count())?;
        let mut rows = self.keeps.then(|| buffer::<f32>(&device, b * h * n)).transpose()?;
        on(&device, |engine| {
            let stream = engine.stream.clone();
            let [q, k, v] = parts.map(|(storage, layout)| address::<T>(storage, layout.start_offset(), &stream));
            let ((q, _q), (k, _k), (v, _v)) = (q?, k?, v?);
            let (to, _to) = out.device_ptr_mut(&stream);
            let mut io = vec![q, k, v, Address::host(&self.scale), Address::device(to)];
            let rows = rows.as_mut().map(|it| it.device_ptr_mut(&stream));
            io.extend(rows.as_ref().map(|it| Address::device(it.0)));
            let pass = if self.keeps { Pass::Training } else { Pass::Inference };
            engine.start(&device, pass, self.plane, &io)
        })?;
        *locked(&self.kept) = rows.map(|rows| Kept { out: None, rows });
        Ok((CudaStorage::wrap_cuda_slice(out, device), self.out.clone()))
    }

    /// The gradients of q, k and v.
    fn backward<T: CudaDType + DeviceRepr + 'static>(&self, parts: [&Tensor; 5]) -> Result<[Tensor; 3]> {
        let [q, k, v, ..] = parts;
        let Device::Cuda(device) = q.device() else { candle_core::bail!("attention's gradient is not on CUDA") };
        let plane = self.plane;
        let kept = locked(&self.kept);
        let Some(Kept { rows: kept, .. }) = kept.as_ref() else {
            candle_core::bail!("attention kept nothing for its gradient")
        };
        let dims = [plane.q.dims, plane.k.dims, plane.v.dims].map(|dims| dims.map(|it| it as usize));
        let [d_q, d_k, d_v] = dims.map(|it| buffer::<T>(device, it.iter().product()));
        let (mut d_q, mut d_k, mut d_v) = (d_q?, d_k?, d_v?);
        let rows = plane.rows().dims.iter().product::<i64>() as usize;
        let mut row_sums = buffer::<f32>(device, rows)?;
        // Versions before 9.6 add to what they find there.
        let mut d_q_sum = device.alloc_zeros::<f32>(dims[0].iter().product())?;
        on(device, |engine| {
            let stream = engine.stream.clone();
            let stores = parts.map(Tensor::storage_and_layout);
            let [q, k, v, out, d_out] = stores.each_ref().map(|(storage, layout)| match &**storage {
                Storage::Cuda(storage) => address::<T>(storage, layout.start_offset(), &stream),
                _ => candle_core::bail!("attention's gradient is not on CUDA"),
            });
            let ((q, _q), (k, _k), (v, _v), (out, _out), (d_out, _d_out)) = (q?, k?, v?, out?, d_out?);
            let (kept, _kept) = kept.device_ptr(&stream);
            let (to_q, _to_q) = d_q.device_ptr_mut(&stream);
            let (to_k, _to_k) = d_k.device_ptr_mut(&stream);
            let (to_v, _to_v) = d_v.device_ptr_mut(&stream);
            let (rows, _rows) = row_sums.device_ptr_mut(&stream);
            let (sum, _sum) = d_q_sum.device_ptr_mut(&stream);
            let numbers = [Address::host(&self.scale), Address::host(&1.0)];
            let after = [kept, to_q, to_k, to_v, rows, sum].map(Address::device);
            let io = [&[q, k, v][..], &numbers, &[out, d_out], &after].concat();
            engine.start(device, Pass::Backward, plane, &io)
        })?;
        let tensor = |slice: CudaSlice<T>, like: &Tensor| {
            let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
            Tensor::from_storage(storage, like.shape().clone(), BackpropOp::none(), false)
        };
        Ok([tensor(d_q, q), tensor(d_k, k), tensor(d_v, v)])
    }
}

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("fused attention runs on CUDA alone")
    }

    fn cuda_fwd(
        &self,
        q: &CudaStorage,
        lq: &Layout,
        k: &CudaStorage,
        lk: &Layout,
        v: &CudaStorage,
        lv: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let parts = [(q, lq), (k, lk), (v, lv)];
        if q.dtype() == DType::F16 { self.forward::<f16>(parts) } else { self.forward::<bf16>(parts) }
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        d_out: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let d_out = d_out.contiguous()?;
        let parts = [q, k, v, out, &d_out];
        let [d_q, d_k, d_v] =
            if q.dtype() == DType::F16 { self.backward::<f16>(parts)? } else { self.backward::<bf16>(parts)? };
        Ok((Some(d_q), Some(d_k), Some(d_v)))
    }
}
