/**
 * LSTM and GRU, layer by layer. PyTorch keeps a layer's two biases apart and has its gates in another order than ONNX, which has both
 * biases in one vector and all directions of a layer in one tensor:
 *
 *     LSTM   PyTorch i f g o   ONNX i o f c          GRU   PyTorch r z n   ONNX z r h, with the reset behind the product
 */
import type { Attrs } from '../../graph/ir.ts';
import type { TranslationTable } from './aten.ts';
import type { Call } from './call.ts';

interface Cell {
  readonly op: 'LSTM' | 'GRU';
  /** Which of PyTorch's gates stands at each place in ONNX. */
  readonly gates: readonly number[];
  /** How many states a layer hands on. */
  readonly states: number;
  readonly attrs: Attrs;
}

const LSTM: Cell = { op: 'LSTM', gates: [0, 3, 1, 2], states: 2, attrs: {} };
const GRU: Cell = { op: 'GRU', gates: [1, 0, 2], states: 1, attrs: { linear_before_reset: true } };

function reordered(c: Call, weight: string, hidden: number, { gates }: Cell): string {
  const rows = c.nodes('Split', [weight, c.ints(gates.map(() => hidden))], gates.length, { axis: 0 });
  return joined(
    c,
    gates.map((gate) => rows[gate]),
  );
}

const joined = (c: Call, parts: readonly string[]): string =>
  parts.length === 1 ? parts[0] : c.node('Concat', parts, { axis: 0 });

/** The parameters that `pick` names of each direction, one behind the other: [directions, …]. */
function stacked(
  c: Call,
  cell: Cell,
  directions: readonly (readonly string[])[],
  pick: readonly number[],
  hidden: number,
): string {
  const rows = directions.map((params) => {
    const vectors = pick.map((i) => reordered(c, params[i], hidden, cell));
    return c.node('Unsqueeze', [joined(c, vectors), c.ints([0])]);
  });
  return joined(c, rows);
}

const chunks = (items: readonly string[], size: number): string[][] =>
  Array.from({ length: items.length / size }, (_, i) => items.slice(i * size, (i + 1) * size));

function recurrent(c: Call, cell: Cell, initial: readonly string[]): readonly string[] {
  if (c.bool('train', false)) c.fail('it is in training mode');
  const batchFirst = c.bool('batch_first', false);
  const directions = c.bool('bidirectional', false) ? 2 : 1;
  const layers = c.number('num_layers');
  const each = c.bool('has_biases', true) ? 4 : 2;
  const params = c.tensors('params');
  const hidden = c.staticDim(initial[0], 2);
  if (params.length !== layers * directions * each) c.fail('projections are not translated');
  const states = initial.map((state) => perLayer(c, state, layers, directions));
  const last: string[][] = initial.map(() => []);
  let x = batchFirst ? c.node('Transpose', [c.tensor('input')], { perm: [1, 0, 2] }) : c.tensor('input');
  for (const [i, layer] of chunks(params, directions * each).entries()) {
    const own = chunks(layer, each);
    const [w, r] = [0, 1].map((pick) => stacked(c, cell, own, [pick], hidden));
    const bias = each === 4 ? stacked(c, cell, own, [2, 3], hidden) : '';
    const attrs = { ...cell.attrs, hidden_size: hidden, direction: directions === 2 ? 'bidirectional' : 'forward' };
    const inputs = [x, w, r, bias, '', ...states.map((state) => state[i])];
    const [y, ...ends] = c.nodes(cell.op, inputs, 1 + cell.states, attrs);
    // [steps, directions, batch, hidden] -> [steps, batch, directions · hidden]
    x = c.node('Reshape', [c.node('Transpose', [y], { perm: [0, 2, 1, 3] }), c.ints([0, 0, -1])]);
    for (const [s, end] of ends.entries()) last[s].push(end);
  }
  const output = batchFirst ? c.node('Transpose', [x], { perm: [1, 0, 2] }) : x;
  return [output, ...last.map((ends) => joined(c, ends))];
}

const perLayer = (c: Call, state: string, layers: number, directions: number): readonly string[] =>
  layers === 1 ? [state] : c.nodes('Split', [state, c.ints(new Array(layers).fill(directions))], layers, { axis: 0 });

export const RECURRENT: TranslationTable = {
  lstm: (c) => recurrent(c, LSTM, c.tensors('hx')),
  gru: (c) => recurrent(c, GRU, [c.tensor('hx')]),
};
