/**
 * The public API of Hotrod. Building is here; running alone is `hotrod/runtime`, which needs none of the compiler.
 */
export { build } from './build.ts';
export type { BuildOptions, BuildProgress, BuildReport } from './build-options.ts';
export type { DType, TypedArray } from './core/dtype.ts';
export { Bug, ERROR_CODES, type ErrorCode, ModelError } from './core/errors.ts';
export { type Dim, type Shape, type SymDim, sym } from './core/shape.ts';
export { fromNumbers, scalarTensor, type Tensor, tensor, toNumbers, type ValueType, zeros } from './core/tensor.ts';
export { VERSION } from './core/version.ts';
export type { Device, DeviceInfo } from './engine/device.ts';
export type { Engine, Precision, TargetName } from './engine/engine.ts';
export { parseEngine, serializeEngine } from './engine/format.ts';
export { inspectEngine } from './engine/inspect.ts';
export { type GraphBuilder, graphBuilder } from './graph/build.ts';
export { evalGraph } from './graph/eval.ts';
export type { Attrs, AttrValue, Graph, Node } from './graph/ir.ts';
export { parseGraph } from './graph/parse.ts';
export { printGraph } from './graph/print.ts';
export * as expr from './loop/expr.ts';
export type { Expr, Kernel, Stmt } from './loop/ir.ts';
export type { ExternalFile, OpenExternal } from './onnx/external-data.ts';
export { readOnnx } from './onnx/read.ts';
export { writeOnnx } from './onnx/write.ts';
export { OPS } from './ops/all.ts';
export { defineElementwise } from './ops/elementwise.ts';
export {
  bool,
  defineOp,
  dtypeAttr,
  float,
  floats,
  graphAttr,
  int,
  ints,
  type KernelContext,
  type KernelSpec,
  type Op,
  type OpDef,
  oneOf,
  string,
  strings,
  tensorAttr,
} from './ops/op.ts';
export { probeTargets } from './targets/all.ts';
export { readCheckpoint } from './torch/checkpoint.ts';
export { readTorch, type TorchModel, type TorchOptions } from './torch/read.ts';
export type { StateDict } from './torch/state-dict.ts';
export { TimingCache } from './tune/timing-cache.ts';
