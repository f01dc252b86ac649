/**
 * Operators that newer opsets have under another name: the reader turns them into that one, so no graph holds them.
 */
import { Bug } from '../core/errors.ts';
import { fromNumbers } from '../core/tensor.ts';
import { attrToInput } from './dims.ts';
import { type AttrSpecs, defineOp, floats, int, type OnnxBinding, type Op, oneOf } from './op.ts';
import { scalesOnly } from './resize.ts';

const renamed = (name: string, attrs: AttrSpecs, onnx: OnnxBinding): Op => {
  const never = (): never => {
    throw new Bug('op-renamed', `${name} is read as another operator, so no graph holds it`);
  };
  return defineOp({ name, onnx, attrs, inputs: [1, 4], infer: never, eval: never, cases: [] });
};

export const RENAMED_OPS: readonly Op[] = [
  // Opset 7 has the scales as an attribute, opset 9 as an input; opset 10 brought Resize.
  renamed(
    'Upsample',
    { mode: oneOf('nearest', 'linear'), scales: floats.optional },
    {
      since: 7,
      upgrade: (node, ctx) =>
        scalesOnly(
          attrToInput(node, ctx, 'scales', 1, (values) => fromNumbers('f32', [values.length], values)),
          ctx,
        ),
    },
  ),
  // Opset 11 named it by what it does.
  renamed('Scatter', { axis: int(0) }, { since: 9, upgrade: (node) => ({ ...node, op: 'ScatterElements' }) }),
];
