/**
 * Activations of the domain com.microsoft, which onnxruntime's optimisers and exporters write: Gelu, FastGelu, BiasGelu, QuickGelu,
 * BiasSplitGelu. https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
 */
import { floorDivDims, printShape, type Shape } from '../core/shape.ts';
import type { InferContext } from '../graph/semantics.ts';
import { type CompositeDef, defineComposite } from './composite.ts';
import { checkFloats } from './dims.ts';
import { type AttrSpecs, float, type Op, type OpCase } from './op.ts';

export const MICROSOFT = { domain: 'com.microsoft', since: 1 } as const;

/** Throws through ctx.fail unless input i, where there is one, is a vector as long as the last dim of x. */
export function checkLastDim(ctx: InferContext<unknown>, i: number, x: Shape): void {
  const shape = ctx.inputs[i]?.shape;
  const last = x[x.length - 1];
  if (!shape) return;
  const fits = shape.length === 1 && (typeof shape[0] !== 'number' || typeof last !== 'number' || shape[0] === last);
  if (!fits) ctx.fail(`input ${i} is ${printShape(shape)}, expected a vector for the last dim of ${printShape(x)}`);
}

type ActivationDef<S extends AttrSpecs> = Pick<CompositeDef<S>, 'name' | 'attrs' | 'inputs' | 'write' | 'cases'>;

/** An activation of input 0, to the last dim of which a bias (input 1) is added before. */
const activation = <S extends AttrSpecs>(def: ActivationDef<S>): Op =>
  defineComposite({
    ...def,
    onnx: MICROSOFT,
    rounding: 'once',
    infer(ctx) {
      checkFloats(ctx);
      checkLastDim(ctx, 1, ctx.input(0).shape);
      return [ctx.input(0)];
    },
  });

const cases = (withBias: readonly boolean[], attrs: OpCase['attrs'] = {}): OpCase[] =>
  withBias.flatMap((bias): OpCase[] =>
    [[7], [2, 3, 5]].map((shape) => ({
      name: `[${shape}]${bias ? ' with bias' : ''} ${JSON.stringify(attrs)}`,
      attrs,
      inputs: [{ dtype: 'f32', shape }, ...(bias ? [{ dtype: 'f32', shape: shape.slice(-1) } as const] : [])],
    })),
  );

const biasSplitGelu = defineComposite({
  name: 'BiasSplitGelu',
  onnx: MICROSOFT,
  attrs: {},
  inputs: [2, 2],
  rounding: 'once',
  infer(ctx) {
    checkFloats(ctx);
    const { dtype, shape } = ctx.input(0);
    checkLastDim(ctx, 1, shape);
    if (shape.length === 0) ctx.fail('the input must have at least one dim');
    const last = shape[shape.length - 1];
    if (typeof last === 'number' && last % 2 !== 0) ctx.fail(`the last dim of ${printShape(shape)} is odd`);
    return [{ dtype, shape: [...shape.slice(0, -1), floorDivDims(last, 2)] }];
  },
  write({ w, input, type }) {
    const { shape } = type(0);
    const axis = shape.length - 1;
    const half = shape[axis] / 2;
    const x = w.add(input(0), input(1));
    return [w.mul(w.slice(x, axis, 0, half), w.node('Gelu', [w.slice(x, axis, half, 2 * half)]))];
  },
  cases: [
    {
      name: 'halves of the last dim',
      inputs: [
        { dtype: 'f32', shape: [2, 3, 10] },
        { dtype: 'f32', shape: [10] },
      ],
    },
  ],
});

export const MICROSOFT_ACTIVATION_OPS: readonly Op[] = [
  activation({
    name: 'Gelu',
    attrs: {},
    inputs: [1, 1],
    write: ({ w, input }) => [w.node('Gelu', [input(0)])],
    cases: cases([false]),
  }),
  activation({
    name: 'FastGelu',
    attrs: {},
    inputs: [1, 2],
    write({ w, input, types }) {
      const x = types[1] ? w.add(input(0), input(1)) : input(0);
      return [w.node('Gelu', [x], { approximate: 'tanh' })];
    },
    cases: cases([false, true]),
  }),
  activation({
    name: 'BiasGelu',
    attrs: {},
    inputs: [2, 2],
    write: ({ w, input }) => [w.node('Gelu', [w.add(input(0), input(1))])],
    cases: cases([true]),
  }),
  activation({
    name: 'QuickGelu',
    attrs: { alpha: float(1.702) },
    inputs: [1, 1],
    write: ({ w, input, attrs }) => [w.node('Swish', [input(0)], attrs)],
    cases: [...cases([false]), ...cases([false], { alpha: 0.5 })],
  }),
  biasSplitGelu,
];
