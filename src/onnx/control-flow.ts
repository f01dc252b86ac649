/**
 * If and Loop, resolved while the model is read: the branch that is taken, the body as often as it runs. What decides must be
 * known by then, which it is where exporters use control flow on shapes and indices. Nothing after the reader knows control flow.
 *
 *     Loop(M, cond, v…): for (i = 0; i < M && cond; i++) [cond, v…, scans…] = body(i, cond, v…)
 *     gives the last v…, and each scan's values stacked along a new dim 0
 */
import { ModelError } from '../core/errors.ts';
import { scalarTensor } from '../core/tensor.ts';
import { nodeLabel } from '../graph/ir.ts';
import type { SourceNode } from './flatten.ts';
import { LOOP } from './live.ts';
import type { GraphProto } from './onnx_pb.ts';
import type { Resolve, Resolver } from './resolve.ts';
import { concat } from './sequences.ts';

export const CONTROL_FLOW: Readonly<Record<string, Resolve>> = { If: resolveIf, Loop: resolveLoop };

function resolveIf(node: SourceNode, to: Resolver): void {
  const attr = knownNumber(node, 0, 'condition', to) ? 'then_branch' : 'else_branch';
  const results = to.addBlock(bodyOf(node, attr), [], `${node.loc.join('+')}/${attr}`);
  nameResults(node, results, to);
}

function resolveLoop(node: SourceNode, to: Resolver): void {
  const body = bodyOf(node, 'body');
  const label = node.loc.join('+');
  // The carried values are as many as the body takes: trailing absent inputs are not listed.
  const carriedCount = body.input.length - LOOP.bodyInputs;
  const trips = isAbsent(node, 0) ? Number.POSITIVE_INFINITY : knownNumber(node, 0, 'number of iterations', to);
  // Without a condition to start with, the body's is not looked at either.
  const isConditional = !isAbsent(node, 1);
  let goesOn = !isConditional || knownNumber(node, 1, 'condition', to) !== 0;
  let carried = Array.from({ length: carriedCount }, (_, k) => node.inputs[LOOP.inputs + k] ?? '');
  const scans: string[][] = [];
  for (let i = 0; i < trips && goesOn; i++) {
    const iteration = to.constant(scalarTensor('i64', i), `${label}/${i}/i`);
    const condition = to.constant(scalarTensor('bool', 1), `${label}/${i}/cond`);
    const results = to.addBlock(body, [iteration, condition, ...carried], `${label}/${i}`);
    carried = results.slice(LOOP.bodyOutputs, LOOP.bodyOutputs + carriedCount);
    scans.push(results.slice(LOOP.bodyOutputs + carriedCount));
    if (isConditional) goesOn = known(node, results[0], 'condition after an iteration', to) !== 0;
  }
  nameResults(node, carried, to);
  for (const [k, name] of node.outputs.slice(carriedCount).entries()) {
    const values = scans.map((row) => row[k] ?? '');
    if (name !== '') concat(node, values, name, 0, true, to);
  }
}

function bodyOf(node: SourceNode, attr: string): GraphProto {
  const body = node.attributes.find((a) => a.name === attr)?.g;
  if (body === undefined) throw new ModelError('model-invalid', `${nodeLabel(node)}: attribute "${attr}" is missing`);
  return body;
}

const isAbsent = (node: SourceNode, input: number): boolean => (node.inputs[input] ?? '') === '';

function knownNumber(node: SourceNode, input: number, what: string, to: Resolver): number {
  if (isAbsent(node, input)) throw new ModelError('model-invalid', `${nodeLabel(node)}: its ${what} is missing`);
  return known(node, node.inputs[input], what, to);
}

function known(node: SourceNode, value: string, what: string, to: Resolver): number {
  const tensor = to.known(value);
  if (tensor?.data.length === 1) return Number(tensor.data[0]);
  throw new ModelError(
    'onnx-unsupported',
    `${nodeLabel(node)}: its ${what} "${value}" is only known when the model runs`,
    {
      hint: 'export the model with fixed shapes, or without control flow',
    },
  );
}

/** The node's outputs have names already: other nodes refer to them. */
function nameResults(node: SourceNode, results: readonly string[], to: Resolver): void {
  for (const [i, result] of results.entries()) {
    const name = node.outputs[i] ?? '';
    const sequence = to.sequence(result);
    if (sequence) to.setSequence(name, sequence);
    else if (name !== '') to.node('Identity', [result], name);
  }
}
