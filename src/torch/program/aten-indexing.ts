/**
 * Choosing elements by index, and putting them somewhere by index.
 */
import { fromNumbers } from '../../core/tensor.ts';
import type { Translation, TranslationTable } from './aten.ts';
import type { Call } from './call.ts';

/** `self[..., indices, ...]` where None keeps a dim whole. */
const index: Translation = (c) => {
  const x = c.tensor('self');
  const indices = c.optionalTensors('indices');
  const at = indices.flatMap((value, axis) => (value === undefined ? [] : [{ value, axis }]));
  if (at.some(({ value }) => c.type(value).dtype === 'bool'))
    c.fail('choosing by a mask gives a size that only running tells');
  const [first] = at;
  if (first === undefined) return x;
  if (at.length === 1) return c.node('Gather', [x, c.cast(first.value, 'i64')], { axis: first.axis });
  if (at.some(({ axis }, i) => axis !== first.axis + i)) c.fail('indices that are not side by side are not translated');
  return gatherTogether(
    c,
    x,
    at.map(({ value }) => value),
    first.axis,
  );
};

/** Several dims side by side indexed at once: they are moved to the front, for GatherND, and what it gives is moved back. */
function gatherTogether(c: Call, x: string, indices: readonly string[], axis: number): string {
  const rank = c.rank(x);
  const count = indices.length;
  const before = Array.from({ length: axis }, (_, i) => i);
  const indexed = indices.map((_, i) => axis + i);
  const after = Array.from({ length: rank - axis - count }, (_, i) => axis + count + i);
  const front = axis === 0 ? x : c.node('Transpose', [x], { perm: [...indexed, ...before, ...after] });
  const wide = indices.map((value) => c.cast(value, 'i64'));
  // Zeros of the common shape: adding them makes all indices as large.
  const common = wide.reduce(
    (sum, value) => c.node('Add', [sum, c.node('Mul', [value, c.scalar(0, 'i64')])]),
    c.scalar(0, 'i64'),
  );
  const depth = c.rank(common);
  const tuples = wide.map((value) => c.node('Unsqueeze', [c.node('Add', [value, common]), c.ints([depth])]));
  const gathered = c.node('GatherND', [front, c.node('Concat', tuples, { axis: depth })]);
  if (axis === 0) return gathered;
  const places = Array.from({ length: depth }, (_, i) => i);
  const perm = [...before.map((i) => depth + i), ...places, ...after.map((_, i) => depth + axis + i)];
  return c.node('Transpose', [gathered], { perm });
}

const gather: Translation = (c) => {
  const x = c.tensor('self');
  return c.node('GatherElements', [x, c.tensor('index')], { axis: c.axis('dim', c.rank(x)) });
};

const indexSelect: Translation = (c) => {
  const x = c.tensor('self');
  return c.node('Gather', [x, c.tensor('index')], { axis: c.axis('dim', c.rank(x)) });
};

/** Elements go to the places that `index` names along an axis; several in one place are added where `reduction` says so. */
const scatter =
  (reduction: 'none' | 'add'): Translation =>
  (c) => {
    const x = c.tensor('self');
    const { dtype } = c.type(x);
    const places = c.tensor('index');
    const source = c.isTensor('src') ? c.tensor('src') : c.filled(c.sizesOf(places), c.number('value'), dtype);
    if (c.type(source).shape.join() !== c.type(places).shape.join())
      c.fail('a source larger than its index is not translated');
    return c.node('ScatterElements', [x, places, c.cast(source, dtype)], { axis: c.axis('dim', c.rank(x)), reduction });
  };

const oneHot: Translation = (c) => {
  const classes = c.number('num_classes', -1);
  if (classes < 0) c.fail('the number of classes must be given');
  const values = c.constant(fromNumbers('i64', [2], [0, 1]));
  return c.node('OneHot', [c.tensor('self'), c.scalar(classes, 'i64'), values], { axis: -1 });
};

/** Each element `repeats` times in a row: a new dim behind its own, which then joins it. */
const repeatInterleave: Translation = (c) => {
  const given = c.tensor('self');
  const x = c.has('dim') ? given : c.node('Reshape', [given, c.ints([-1])]);
  const repeats = c.number('repeats');
  const axis = c.axis('dim', c.rank(x), 0);
  const sizes = c.sizesOf(x);
  const lifted = c.node('Unsqueeze', [x, c.ints([axis + 1])]);
  const wide = c.node('Expand', [lifted, c.vector([...sizes.slice(0, axis + 1), repeats, ...sizes.slice(axis + 1)])]);
  return c.node('Reshape', [wide, c.vector([...sizes.slice(0, axis), -1, ...sizes.slice(axis + 1)])]);
};

/** A tensor of the shape of `self`, all `value`. */
const fill: Translation = (c) => {
  const x = c.tensor('self');
  const { dtype } = c.type(x);
  if (!c.isTensor('value')) return c.filled(c.sizesOf(x), c.number('value', 0), dtype);
  return c.node('Expand', [c.cast(c.tensor('value'), dtype), c.vector(c.sizesOf(x))]);
};

const copy: Translation = (c) => {
  const x = c.tensor('self');
  return c.node('Expand', [c.cast(c.tensor('src'), c.type(x).dtype), c.vector(c.sizesOf(x))]);
};

export const INDEXING: TranslationTable = {
  index,
  gather,
  index_select: indexSelect,
  embedding: (c) => c.node('Gather', [c.tensor('weight'), c.tensor('indices')], { axis: 0 }),
  scatter: scatter('none'),
  scatter_add: scatter('add'),
  fill,
  zero: fill,
  copy,
  one_hot: oneHot,
  repeat_interleave: repeatInterleave,
};
