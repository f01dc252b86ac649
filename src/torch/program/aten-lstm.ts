/**
 * LSTM, layer by layer: PyTorch's gates are (i, f, g, o) and its two biases apart; ONNX has (i, o, f, c) and both biases in one vector.
 */
import type { TranslationTable } from './aten.ts';
import type { Call } from './call.ts';

/** The rows of PyTorch's gates in ONNX's order. */
const GATES = [0, 3, 1, 2];

function reordered(c: Call, weight: string, hidden: number): string {
  const gates = c.nodes('Split', [weight, c.ints([hidden, hidden, hidden, hidden])], 4, { axis: 0 });
  return c.node(
    'Concat',
    GATES.map((gate) => gates[gate]),
    { axis: 0 },
  );
}

interface Layer {
  readonly params: readonly string[];
  readonly hidden: number;
  readonly hasBiases: boolean;
  readonly directions: number;
}

/** The weights of all directions of a layer, one behind the other: [directions, …]. */
function stacked(c: Call, { params, hidden, hasBiases, directions }: Layer, pick: readonly number[]): string {
  const each = hasBiases ? 4 : 2;
  const rows = Array.from({ length: directions }, (_, d) => {
    const parts = pick.map((i) => reordered(c, params[d * each + i], hidden));
    const joined = parts.length === 1 ? parts[0] : c.node('Concat', parts, { axis: 0 });
    return c.node('Unsqueeze', [joined, c.ints([0])]);
  });
  return rows.length === 1 ? rows[0] : c.node('Concat', rows, { axis: 0 });
}

function lstm(c: Call): readonly string[] {
  if (c.bool('train', false)) c.fail('it is in training mode');
  const batchFirst = c.bool('batch_first', false);
  const directions = c.bool('bidirectional', false) ? 2 : 1;
  const layers = c.number('num_layers');
  const hasBiases = c.bool('has_biases', true);
  const params = c.tensors('params');
  const [hidden0, cell0] = c.tensors('hx');
  const hidden = c.staticDim(hidden0, 2);
  const each = directions * (hasBiases ? 4 : 2);
  if (params.length !== layers * each) c.fail('projections are not translated');
  const statesOf = (states: string): readonly string[] =>
    layers === 1
      ? [states]
      : c.nodes('Split', [states, c.ints(new Array(layers).fill(directions))], layers, { axis: 0 });
  const [hiddens, cells] = [statesOf(hidden0), statesOf(cell0)];
  let x = batchFirst ? c.node('Transpose', [c.tensor('input')], { perm: [1, 0, 2] }) : c.tensor('input');
  const [lastHidden, lastCell]: [string[], string[]] = [[], []];
  for (let i = 0; i < layers; i++) {
    const layer = { params: params.slice(i * each, (i + 1) * each), hidden, hasBiases, directions };
    const bias = hasBiases ? stacked(c, layer, [2, 3]) : '';
    const inputs = [x, stacked(c, layer, [0]), stacked(c, layer, [1]), bias, '', hiddens[i], cells[i]];
    const attrs = { hidden_size: hidden, direction: directions === 2 ? 'bidirectional' : 'forward' };
    const [y, h, cell] = c.nodes('LSTM', inputs, 3, attrs);
    // [steps, directions, batch, hidden] -> [steps, batch, directions · hidden]
    x = c.node('Reshape', [c.node('Transpose', [y], { perm: [0, 2, 1, 3] }), c.ints([0, 0, -1])]);
    lastHidden.push(h);
    lastCell.push(cell);
  }
  const joined = (states: readonly string[]): string =>
    states.length === 1 ? states[0] : c.node('Concat', states, { axis: 0 });
  const output = batchFirst ? c.node('Transpose', [x], { perm: [1, 0, 2] }) : x;
  return [output, joined(lastHidden), joined(lastCell)];
}

export const LSTM: TranslationTable = { lstm };
