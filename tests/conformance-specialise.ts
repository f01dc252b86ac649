/**
 * Which inputs of a model must be fixed at build time: those whose elements inference asks for (axes, shapes, k, repeats, pads), as
 * they decide the sizes of what is computed.
 *
 * Every operator's infer runs behind a context that notes what it is asked. An operator whose output sizes depend on its data
 * asks for nothing here: fixing its data would leave nothing to run.
 */
import { isFloat } from '../src/core/dtype.ts';
import type { Shape } from '../src/core/shape.ts';
import type { Tensor, ValueType } from '../src/core/tensor.ts';
import { inferGraph } from '../src/graph/infer.ts';
import type { Graph } from '../src/graph/ir.ts';
import type { InferContext } from '../src/graph/semantics.ts';
import { readOnnx } from '../src/onnx/read.ts';
import { OPS } from '../src/ops/all.ts';
import type { Op } from '../src/ops/op.ts';

/** Operators that find out while running how much they give. */
const SIZED_BY_DATA: ReadonlySet<string> = new Set(['NonZero', 'Unique', 'NonMaxSuppression', 'Compress', 'TopK']);

/** The inputs to fix, with their values. */
export function specialise(bytes: Uint8Array, inputs: ReadonlyMap<string, Tensor>): Record<string, Tensor> {
  let fixed: Record<string, Tensor> = {};
  // Fixing one input may lead inference to the next.
  for (let round = 0; round <= inputs.size; round++) {
    const graph = readOrUndefined(bytes, fixed);
    const more = graph ? askedInputs(graph) : deciders(inputs);
    const next = [...inputs].filter(([name]) => more.has(name) || name in fixed);
    if (next.length === Object.keys(fixed).length) break;
    fixed = Object.fromEntries(next);
  }
  return fixed;
}

/** Undefined where the model cannot be read yet: control flow is resolved by the reader, from what decides it. */
function readOrUndefined(bytes: Uint8Array, constants: Record<string, Tensor>): Graph | undefined {
  try {
    return readOnnx(bytes, { ops: OPS, constants });
  } catch {
    return undefined;
  }
}

/** What may decide control flow: single numbers, and anything that is no float. */
const deciders = (inputs: ReadonlyMap<string, Tensor>): Set<string> =>
  new Set([...inputs].filter(([, value]) => value.data.length === 1 || !isFloat(value.dtype)).map(([name]) => name));

/** The graph inputs that values come from which infer asks for and does not get. */
function askedInputs(graph: Graph): Set<string> {
  const asked = new Set<ValueType>();
  const made = new Map<ValueType, InferContext>();
  inferGraph(graph, new Map([...OPS].map(([key, op]) => [key, noting(op, asked, made)])));
  const names = new Map(graph.inputs.map((name) => [graph.values.get(name), name]));
  const found = new Set<string>();
  const seen = new Set<ValueType>();
  const visit = (type: ValueType | undefined): void => {
    if (!type || seen.has(type)) return;
    seen.add(type);
    const name = names.get(type);
    if (name !== undefined) found.add(name);
    made.get(type)?.inputs.forEach(visit);
  };
  asked.forEach(visit);
  return found;
}

/** Types are told apart by identity: each value has an object of its own. */
function noting(op: Op, asked: Set<ValueType>, made: Map<ValueType, InferContext>): Op {
  if (SIZED_BY_DATA.has(op.key)) return op;
  const note = <T extends Tensor | Shape>(ctx: InferContext, i: number, value: T | undefined): T | undefined => {
    const type = ctx.inputs[i];
    if (type && value === undefined) asked.add(type);
    return value;
  };
  return {
    ...op,
    infer(ctx) {
      const types = op.infer({
        ...ctx,
        constant: (i) => note(ctx, i, ctx.constant(i)),
        dims: (i) => note(ctx, i, ctx.dims(i)),
      });
      return types.map((type) => {
        const own = { ...type };
        made.set(own, ctx);
        return own;
      });
    },
  };
}
