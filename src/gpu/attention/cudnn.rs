//! cuDNN's graphs of operations: descriptors, the tensors and operations of a graph, and plans that run it.
//!
//! What attributes each descriptor takes is said in NVIDIA's reference of the cuDNN graph library
//! (docs.nvidia.com/deeplearning/cudnn, "Backend descriptor types").

use std::ffi::{CStr, c_void};
use std::ptr;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cudnn::sys::{
    self, cudnnBackendAttributeName_t as Name, cudnnBackendAttributeType_t as Type,
    cudnnBackendDescriptorType_t as Kind, cudnnBackendHeurMode_t as Heuristics,
};
pub(super) use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnDataType_t as DataType, cudnnPointwiseMode_t as Pointwise, cudnnReduceTensorOp_t as Reduce,
};
use candle_core::cuda_backend::cudarc::driver::CudaStream;
use candle_core::{Error, Result};

/// cuDNN's context on one stream of a device. It is neither `Send` nor `Sync`.
pub(super) struct Handle(sys::cudnnHandle_t);

impl Handle {
    /// A context whose work goes to `stream`, which must outlive it.
    pub(super) fn new(stream: &CudaStream) -> Result<Self> {
        // A thread that has not used the device yet has no CUDA context of its own.
        stream.context().bind_to_thread().w()?;
        let mut handle = ptr::null_mut();
        #[expect(unsafe_code, reason = "a foreign function; `handle` is a valid place for its result")]
        check("open cuDNN", unsafe { sys::cudnnCreate(&raw mut handle) })?;
        let this = Self(handle);
        #[expect(unsafe_code, reason = "a foreign function; the handle is open and the stream is the caller's")]
        check("give cuDNN its stream", unsafe { sys::cudnnSetStream(handle, stream.cu_stream().cast()) })?;
        Ok(this)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the handle was opened by `new` and is closed once")]
        // Nobody is left to be told of a failure.
        let _ = unsafe { sys::cudnnDestroy(self.0) };
    }
}

/// An error of cuDNN, with its own words where it has some.
fn check(what: &str, status: sys::cudnnStatus_t) -> Result<()> {
    if status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS {
        return Ok(());
    }
    let mut text = [0_u8; 512];
    #[expect(unsafe_code, reason = "the function writes at most as many bytes as it is told, ending with a zero")]
    unsafe {
        sys::cudnnGetLastErrorString(text.as_mut_ptr().cast(), text.len());
    }
    let text = CStr::from_bytes_until_nul(&text).map_or(String::new(), |it| it.to_string_lossy().into_owned());
    Err(Error::Cuda(format!("{what}: {status:?} {text}").into()))
}

/// What an attribute can hold: `TYPE` must be the name that cuDNN has for the type's memory.
#[expect(unsafe_code, reason = "cuDNN reads the memory of the values as TYPE says")]
unsafe trait Value: Copy {
    const TYPE: Type;
}

macro_rules! values {
    ($($of:ty => $type:ident),*) => { $(
        #[expect(unsafe_code, reason = "the pair is as in cudnn_graph.h")]
        unsafe impl Value for $of {
            const TYPE: Type = Type::$type;
        }
    )* };
}

values!(i64 => CUDNN_TYPE_INT64, bool => CUDNN_TYPE_BOOLEAN, DataType => CUDNN_TYPE_DATA_TYPE,
    Pointwise => CUDNN_TYPE_POINTWISE_MODE, Reduce => CUDNN_TYPE_REDUCTION_OPERATOR_TYPE,
    Heuristics => CUDNN_TYPE_HEUR_MODE, sys::cudnnHandle_t => CUDNN_TYPE_HANDLE, Address => CUDNN_TYPE_VOID_PTR,
    sys::cudnnBackendDescriptor_t => CUDNN_TYPE_BACKEND_DESCRIPTOR);

/// Where a tensor lies: on the device, or on the host for one number.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Address(*mut c_void);

impl Address {
    /// Memory of the device.
    pub(super) fn device(pointer: u64) -> Self {
        Self(pointer as *mut c_void)
    }

    /// A number on the host; it must live until the plan was started.
    pub(super) fn host(number: &f32) -> Self {
        Self(ptr::from_ref(number).cast_mut().cast())
    }
}

/// One of cuDNN's opaque objects.
struct Descriptor(sys::cudnnBackendDescriptor_t);

impl Descriptor {
    fn new(kind: Kind) -> Result<Self> {
        let mut made = ptr::null_mut();
        #[expect(unsafe_code, reason = "a foreign function; `made` is a valid place for its result")]
        check("make a descriptor", unsafe { sys::cudnnBackendCreateDescriptor(kind, &raw mut made) })?;
        Ok(Self(made))
    }

    fn set<T: Value>(self, name: Name, values: &[T]) -> Result<Self> {
        let n = values.len() as i64;
        #[expect(unsafe_code, reason = "the descriptor lives, and `values` holds n values of that type")]
        let status = unsafe { sys::cudnnBackendSetAttribute(self.0, name, T::TYPE, n, values.as_ptr().cast()) };
        check(&format!("set {name:?}"), status)?;
        Ok(self)
    }

    fn set_part(self, name: Name, part: &Self) -> Result<Self> {
        self.set(name, &[part.0])
    }

    fn finish(self, what: &str) -> Result<Self> {
        #[expect(unsafe_code, reason = "the descriptor lives")]
        check(what, unsafe { sys::cudnnBackendFinalize(self.0) })?;
        Ok(self)
    }

    /// Reads as many values as there are, into `values`; descriptors must have been made before.
    fn read<T: Value>(&self, name: Name, values: &mut [T]) -> Result<usize> {
        let mut n = 0_i64;
        let most = values.len() as i64;
        #[expect(unsafe_code, reason = "the descriptor lives, and `values` has room for `most` values of that type")]
        let status = unsafe {
            sys::cudnnBackendGetAttribute(self.0, name, T::TYPE, most, &raw mut n, values.as_mut_ptr().cast())
        };
        check(&format!("read {name:?}"), status)?;
        Ok(usize::try_from(n).unwrap_or(0).min(values.len()))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the descriptor was made by `new` and is destroyed once")]
        // Nobody is left to be told of a failure.
        let _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}

/// Where the values of a tensor of a graph are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In memory that the caller gives.
    Memory,
    /// Nowhere: the operations hand them on.
    Virtual,
    /// One number on the host.
    Number,
}

/// A tensor of a graph: its number among the graph's tensors.
#[derive(Clone, Copy)]
pub(super) struct Id(usize);

/// Sizes and strides in elements, of [B, H, N, D].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Layout4 {
    pub(super) dims: [i64; 4],
    pub(super) strides: [i64; 4],
}

impl Layout4 {
    /// Rows one after the other.
    pub(super) fn packed(dims: [i64; 4]) -> Self {
        Self { dims, strides: [dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1] }
    }

    /// [B, H, N, D] in memory of [B, N, H, D].
    pub(super) fn heads_inside([b, h, n, d]: [i64; 4]) -> Self {
        Self { dims: [b, h, n, d], strides: [n * h * d, d, h * d, 1] }
    }

    /// The same memory with the last two axes exchanged.
    pub(super) fn transposed(self) -> Self {
        let turn = |[a, b, c, d]: [i64; 4]| [a, b, d, c];
        Self { dims: turn(self.dims), strides: turn(self.strides) }
    }
}

/// A graph that is being put together; all arithmetic is f32.
#[derive(Default)]
pub(super) struct Graph {
    tensors: Vec<(Descriptor, Layout4)>,
    operations: Vec<Descriptor>,
    /// What the operations refer to.
    parts: Vec<Descriptor>,
}

impl Graph {
    /// A tensor.
    pub(super) fn tensor(&mut self, layout: Layout4, dtype: DataType, place: Place) -> Result<Id> {
        let tensor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?
            .set(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[self.tensors.len() as i64 + 1])?
            .set(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, &[dtype])?
            .set(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &layout.dims)?
            .set(Name::CUDNN_ATTR_TENSOR_STRIDES, &layout.strides)?
            .set(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[16_i64])?
            .set(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, &[place == Place::Virtual])?
            .set(Name::CUDNN_ATTR_TENSOR_IS_BY_VALUE, &[place == Place::Number])?
            .finish("describe a tensor")?;
        self.tensors.push((tensor, layout));
        Ok(Id(self.tensors.len() - 1))
    }

    /// A tensor of f32 that exists nowhere.
    pub(super) fn between(&mut self, dims: [i64; 4]) -> Result<Id> {
        self.tensor(Layout4::packed(dims), DataType::CUDNN_DATA_FLOAT, Place::Virtual)
    }

    /// One f32 on the host.
    pub(super) fn number(&mut self) -> Result<Id> {
        self.tensor(Layout4::packed([1; 4]), DataType::CUDNN_DATA_FLOAT, Place::Number)
    }

    /// Sizes of a tensor.
    pub(super) fn dims(&self, of: Id) -> [i64; 4] {
        self.tensors[of.0].1.dims
    }

    fn at(&self, id: Id) -> &Descriptor {
        &self.tensors[id.0].0
    }

    /// to = a · b over the last two axes.
    pub(super) fn matmul(&mut self, a: Id, b: Id, to: Id) -> Result<()> {
        let how = Descriptor::new(Kind::CUDNN_BACKEND_MATMUL_DESCRIPTOR)?
            .set(Name::CUDNN_ATTR_MATMUL_COMP_TYPE, &[DataType::CUDNN_DATA_FLOAT])?
            .finish("describe a product")?;
        let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)?
            .set_part(Name::CUDNN_ATTR_OPERATION_MATMUL_ADESC, self.at(a))?
            .set_part(Name::CUDNN_ATTR_OPERATION_MATMUL_BDESC, self.at(b))?
            .set_part(Name::CUDNN_ATTR_OPERATION_MATMUL_CDESC, self.at(to))?
            .set_part(Name::CUDNN_ATTR_OPERATION_MATMUL_DESC, &how)?
            .finish("describe a matrix product")?;
        self.parts.push(how);
        self.operations.push(operation);
        Ok(())
    }

    /// to = mode(x) or mode(x, y), number by number; y is stretched along axes of size 1.
    pub(super) fn pointwise_to(&mut self, mode: Pointwise, x: Id, y: Option<Id>, to: Id) -> Result<()> {
        let how = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?
            .set(Name::CUDNN_ATTR_POINTWISE_MODE, &[mode])?
            .set(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, &[DataType::CUDNN_DATA_FLOAT])?
            .finish("describe pointwise arithmetic")?;
        let mut operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?
            .set_part(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &how)?
            .set_part(Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, self.at(x))?
            .set_part(Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, self.at(to))?;
        if let Some(y) = y {
            operation = operation.set_part(Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, self.at(y))?;
        }
        self.operations.push(operation.finish("describe a pointwise operation")?);
        self.parts.push(how);
        Ok(())
    }

    /// The same into a new tensor that exists nowhere, of x's sizes.
    pub(super) fn pointwise(&mut self, mode: Pointwise, x: Id, y: Option<Id>) -> Result<Id> {
        let to = self.between(self.dims(x))?;
        self.pointwise_to(mode, x, y, to)?;
        Ok(to)
    }

    /// x reduced over its last axis, into a tensor that exists nowhere.
    pub(super) fn reduce_rows(&mut self, how: Reduce, x: Id) -> Result<Id> {
        let [b, h, n, _] = self.dims(x);
        let to = self.between([b, h, n, 1])?;
        let how = Descriptor::new(Kind::CUDNN_BACKEND_REDUCTION_DESCRIPTOR)?
            .set(Name::CUDNN_ATTR_REDUCTION_OPERATOR, &[how])?
            .set(Name::CUDNN_ATTR_REDUCTION_COMP_TYPE, &[DataType::CUDNN_DATA_FLOAT])?
            .finish("describe a sum")?;
        let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)?
            .set_part(Name::CUDNN_ATTR_OPERATION_REDUCTION_XDESC, self.at(x))?
            .set_part(Name::CUDNN_ATTR_OPERATION_REDUCTION_YDESC, self.at(to))?
            .set_part(Name::CUDNN_ATTR_OPERATION_REDUCTION_DESC, &how)?
            .finish("describe a reduction")?;
        self.parts.push(how);
        self.operations.push(operation);
        Ok(to)
    }

    /// x with its last two axes exchanged, of type `dtype`, in a tensor that exists nowhere.
    pub(super) fn transpose(&mut self, x: Id, dtype: DataType) -> Result<Id> {
        let layout = self.tensors[x.0].1.transposed();
        let to = self.tensor(layout, dtype, Place::Virtual)?;
        let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR)?
            .set_part(Name::CUDNN_ATTR_OPERATION_RESHAPE_XDESC, self.at(x))?
            .set_part(Name::CUDNN_ATTR_OPERATION_RESHAPE_YDESC, self.at(to))?
            .finish("describe a transposition")?;
        self.operations.push(operation);
        Ok(to)
    }

    /// The plan that cuDNN thinks best of those that it can build. `io` are the tensors in memory and the numbers, in
    /// the order in which [`Plan::start`] takes their addresses.
    pub(super) fn plan(self, handle: &Handle, io: &[Id]) -> Result<Plan> {
        let operations: Vec<_> = self.operations.iter().map(|it| it.0).collect();
        let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?
            .set(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &operations)?
            .set(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, &[handle.0])?
            .finish("put the graph together")?;
        let heuristics = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?
            .set_part(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &graph)?
            .set(Name::CUDNN_ATTR_ENGINEHEUR_MODE, &[Heuristics::CUDNN_HEUR_MODE_A])?
            .finish("ask for engines")?;
        let engines: Vec<Descriptor> =
            (0..8).map(|_| Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)).collect::<Result<_>>()?;
        let mut raw: Vec<_> = engines.iter().map(|it| it.0).collect();
        let n = heuristics.read(Name::CUDNN_ATTR_ENGINEHEUR_RESULTS, &mut raw)?;
        let mut refusal = Error::Cuda("cuDNN has no engine for this graph".into());
        for engine in &engines[..n] {
            let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?
                .set(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, &[handle.0])?
                .set_part(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engine)?
                .finish("build the plan");
            match plan {
                Ok(plan) => {
                    let mut workspace = [0_i64];
                    plan.read(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, &mut workspace)?;
                    let workspace = usize::try_from(workspace[0]).unwrap_or(0);
                    let io = io.iter().map(|it| it.0 as i64 + 1).collect();
                    return Ok(Plan { plan, workspace, io, _engines: engines, _graph: (graph, self) });
                }
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }
}

/// A graph that is ready to run.
pub(super) struct Plan {
    plan: Descriptor,
    /// Bytes of scratch memory that it needs on the device.
    pub(super) workspace: usize,
    io: Vec<i64>,
    _engines: Vec<Descriptor>,
    _graph: (Descriptor, Graph),
}

impl Plan {
    /// Starts the plan on the handle's stream.
    ///
    /// # Safety
    /// The addresses must belong to memory of the sizes, strides and types that the graph's tensors say, aligned to 16
    /// bytes, `scratch` to [`Plan::workspace`] bytes; nothing else may touch them before the stream has come past.
    #[expect(unsafe_code, reason = "cuDNN writes to the addresses that it is given")]
    pub(super) unsafe fn start(&self, handle: &Handle, io: &[Address], scratch: Address) -> Result<()> {
        let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?
            .set(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, io)?
            .set(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &self.io)?
            .set(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[scratch])?
            .finish("name the memory")?;
        check("run attention", unsafe { sys::cudnnBackendExecute(handle.0, self.plan.0, pack.0) })
    }
}
