/**
 * Scan, resolved while the model is read: its body once for each index along the axes that it scans, whose extent must be known.
 *
 *     [v…, outs…] = body(v…, x[t]…) for each t; gives the last v…, and each of outs stacked along a new dim
 *
 * Opset 8 had a batch in front of everything and ran the body for each of its rows apart.
 */
import { ModelError } from '../core/errors.ts';
import { scalarTensor } from '../core/tensor.ts';
import { nodeLabel } from '../graph/ir.ts';
import type { SourceNode } from './flatten.ts';
import type { GraphProto } from './onnx_pb.ts';
import type { Resolver } from './resolve.ts';
import { concat } from './sequences.ts';

/** From here on Scan has no batch and no lengths. */
const WITHOUT_BATCH = 9;

interface ScanNode {
  readonly node: SourceNode;
  readonly body: GraphProto;
  readonly scanInputs: number;
  readonly states: number;
  readonly inputAxes: readonly number[];
  /** True where an input is scanned, an output stacked, from its end. */
  readonly inputReversed: readonly boolean[];
  readonly outputReversed: readonly boolean[];
  readonly label: string;
}

/** What a run gives: the last states, and of each output its values in the order in which they are stacked. */
interface ScanRun {
  readonly states: readonly string[];
  readonly outputs: readonly (readonly string[])[];
}

/** Throws ModelError `model-invalid`, and `onnx-unsupported` where the extent to scan is open. */
export function resolveScan(node: SourceNode, to: Resolver): void {
  const scan = readScan(node);
  const batched = node.opset < WITHOUT_BATCH;
  const values = batched ? node.inputs.slice(1) : node.inputs;
  if (batched && (node.inputs[0] ?? '') !== '') {
    throw new ModelError('onnx-unsupported', `${nodeLabel(node)}: lengths of sequences are not supported`);
  }
  const named = (i: number): string => node.outputs[i] ?? '';
  const outputAxes = intsOf(node, 'scan_output_axes');
  if (!batched) {
    const { states, outputs } = run(scan, values, to);
    for (const [k, state] of states.entries()) if (named(k) !== '') to.node('Identity', [state], named(k));
    for (const [k, rows] of outputs.entries()) {
      const name = named(scan.states + k);
      if (name !== '') concat(node, rows, name, outputAxes[k] ?? 0, true, to);
    }
    return;
  }
  const rowsOfBatch = Array.from({ length: extent(scan, values[0], 0, to) }, (_, b) =>
    run(
      scan,
      values.map((value) => element(value, b, 0, `${scan.label}/${b}`, to)),
      to,
    ),
  );
  for (const [i, name] of node.outputs.entries()) {
    if (name === '') continue;
    const rows = rowsOfBatch.map(({ states, outputs }) => {
      if (i < scan.states) return states[i];
      const stacked = to.unused(`${name}/rows`);
      concat(node, outputs[i - scan.states], stacked, 0, true, to);
      return stacked;
    });
    concat(node, rows, name, 0, true, to);
  }
}

function readScan(node: SourceNode): ScanNode {
  const body = node.attributes.find((a) => a.name === 'body')?.g;
  if (body === undefined) throw new ModelError('model-invalid', `${nodeLabel(node)}: attribute "body" is missing`);
  const scanInputs = Number(node.attributes.find((a) => a.name === 'num_scan_inputs')?.i ?? 0n);
  const states = body.input.length - scanInputs;
  if (scanInputs < 1 || states < 0) {
    throw new ModelError(
      'model-invalid',
      `${nodeLabel(node)}: num_scan_inputs is ${scanInputs}, its body has ${body.input.length} inputs`,
    );
  }
  const backwards = (name: string): boolean[] => intsOf(node, name).map((direction) => direction !== 0);
  return {
    node,
    body,
    scanInputs,
    states,
    inputAxes: intsOf(node, 'scan_input_axes'),
    inputReversed: backwards(node.opset < WITHOUT_BATCH ? 'directions' : 'scan_input_directions'),
    outputReversed: backwards('scan_output_directions'),
    label: node.loc.join('+'),
  };
}

const intsOf = (node: SourceNode, name: string): number[] =>
  (node.attributes.find((a) => a.name === name)?.ints ?? []).map(Number);

function run(scan: ScanNode, values: readonly string[], to: Resolver): ScanRun {
  const scanned = values.slice(scan.states);
  const axes = scanned.map((_, k) => scan.inputAxes[k] ?? 0);
  const length = extent(scan, scanned[0], axes[0], to);
  const rows: string[][] = Array.from({ length: scan.body.output.length - scan.states }, () => []);
  let states = values.slice(0, scan.states);
  for (let i = 0; i < length; i++) {
    const label = `${scan.label}/${i}`;
    const elements = scanned.map((value, k) =>
      element(value, scan.inputReversed[k] ? length - 1 - i : i, axes[k], label, to),
    );
    const results = to.addBlock(scan.body, [...states, ...elements], label);
    states = results.slice(0, scan.states);
    for (const [k, row] of results.slice(scan.states).entries()) rows[k].push(row);
  }
  return { states, outputs: rows.map((row, k) => (scan.outputReversed[k] ? row.toReversed() : row)) };
}

/** Index i of a value along an axis, which goes away. */
const element = (value: string, i: number, axis: number, label: string, to: Resolver): string =>
  to.node('Gather', [value, to.constant(scalarTensor('i64', i), `${label}/index`)], to.unused(`${label}/${value}`), {
    axis,
  });

function extent({ node }: ScanNode, value: string, axis: number, to: Resolver): number {
  const shape = to.shape(value);
  const size = shape?.[axis < 0 ? axis + shape.length : axis];
  if (typeof size === 'number') return size;
  throw new ModelError(
    'onnx-unsupported',
    `${nodeLabel(node)}: the size of "${value}" along axis ${axis}, which it scans, is not known`,
    { hint: 'export the model with fixed shapes' },
  );
}
