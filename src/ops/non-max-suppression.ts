/**
 * NonMaxSuppression: of the boxes of each class, best score first, those that overlap no better one by more than a threshold.
 *
 * The result is a list of (batch, class, box), whose length the data decide: it has an open size and no kernel, unless all inputs are
 * known. Boxes are [y1, x1, y2, x2], any diagonal, or [x centre, y centre, width, height].
 */
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import { bool, defineOp, type Op, type OpCase } from './op.ts';
import { toFloat64 } from './product.ts';

interface Box {
  readonly top: number;
  readonly left: number;
  readonly bottom: number;
  readonly right: number;
}

function boxOf([a, b, c, d]: Float64Array, centred: boolean): Box {
  if (centred) return { left: a - c / 2, top: b - d / 2, right: a + c / 2, bottom: b + d / 2 };
  return { top: Math.min(a, c), left: Math.min(b, d), bottom: Math.max(a, c), right: Math.max(b, d) };
}

/** Intersection over union. */
function overlap(p: Box, q: Box): number {
  const height = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
  const width = Math.min(p.right, q.right) - Math.max(p.left, q.left);
  if (height <= 0 || width <= 0) return 0;
  const area = (b: Box) => (b.bottom - b.top) * (b.right - b.left);
  return (height * width) / (area(p) + area(q) - height * width);
}

const scalarOf = (t: Tensor | undefined, otherwise: number): number => (t ? toFloat64(t)[0] : otherwise);

/** Rows (batch, class, box), flat. */
function suppress(inputs: readonly (Tensor | undefined)[], centred: boolean): number[] {
  const [boxes, scores, most, iou, score] = inputs;
  const [batches, count] = boxes!.shape;
  const classes = scores!.shape[1];
  const [corners, values] = [toFloat64(boxes!), toFloat64(scores!)];
  const limit = scalarOf(most, 0);
  const threshold = scalarOf(iou, 0);
  const least = scalarOf(score, Number.NEGATIVE_INFINITY);
  const rows: number[] = [];
  for (let n = 0; n < batches; n++) {
    const all = Array.from({ length: count }, (_, i) =>
      boxOf(corners.subarray(4 * (n * count + i), 4 * (n * count + i) + 4), centred),
    );
    for (let c = 0; c < classes; c++) {
      const own = values.subarray((n * classes + c) * count, (n * classes + c + 1) * count);
      const order = Array.from({ length: count }, (_, i) => i).filter((i) => own[i] > least);
      order.sort((i, j) => own[j] - own[i] || i - j);
      const kept: number[] = [];
      for (const i of order) {
        if (kept.length >= limit) break;
        if (kept.every((k) => overlap(all[i], all[k]) <= threshold)) kept.push(i);
      }
      for (const i of kept) rows.push(n, c, i);
    }
  }
  return rows;
}

const nms = (name: string, parameters: readonly number[], attrs: OpCase['attrs'] = {}): OpCase => {
  const [most, ...thresholds] = parameters;
  const coords = [0, 0, 1, 1, 0, 0.1, 1, 1.1, 0, -0.1, 1, 0.9, 0, 10, 1, 11, 0, 10.1, 1, 11.1, 0, 100, 1, 101];
  const scores = [0.9, 0.75, 0.6, 0.95, 0.5, 0.3];
  return {
    name,
    attrs,
    inputs: [
      { constant: fromNumbers('f32', [1, 6, 4], coords) },
      { constant: fromNumbers('f32', [1, 2, 6], [...scores, ...scores.toReversed()]) },
      { constant: fromNumbers('i64', [1], [most]) },
      ...thresholds.map((value) => ({ constant: fromNumbers('f32', [1], [value]) })),
    ],
  };
};

const nonMaxSuppression = defineOp({
  name: 'NonMaxSuppression',
  onnx: { since: 10 },
  attrs: { center_point_box: bool(false) },
  inputs: [2, 5],
  traits: { exactInputs: 'all' },
  infer(ctx) {
    const [boxes, scores] = [ctx.input(0), ctx.input(1)];
    if (boxes.shape.length !== 3 || scores.shape.length !== 3) ctx.fail('boxes and scores must have rank 3');
    const known = ctx.inputs.map((_, i) => ctx.constant(i));
    const isKnown = ctx.inputs.every((type, i) => !type || known[i]);
    const count = isKnown ? suppress(known, ctx.attrs.center_point_box).length / 3 : ctx.freshDim('boxes');
    return [{ dtype: 'i64', shape: [count, 3] }];
  },
  eval: (inputs, { center_point_box }, [out]) => [fromNumbers('i64', out.shape, suppress(inputs, center_point_box))],
  cases: [
    nms('by overlap', [3, 0.5, 0]),
    nms('by score', [3, 0.5, 0.4]),
    nms('two at most', [2, 0.5]),
    nms('none', [0]),
    nms('centres', [3, 0.5, 0], { center_point_box: true }),
  ],
});

export const NON_MAX_SUPPRESSION_OPS: readonly Op[] = [nonMaxSuppression];
