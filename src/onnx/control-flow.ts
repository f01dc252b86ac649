/**
 * If and Loop, resolved while the model is read: the branch that is taken, the body as often as it runs. What decides is mostly known
 * by then, since exporters use control flow on shapes and indices. Nothing after the reader knows control flow.
 *
 *     Loop(M, cond, v…): for (i = 0; i < M && cond; i++) [cond, v…, scans…] = body(i, cond, v…)
 *     gives the last v…, and each scan's values stacked along a new dim 0
 *
 * A condition that only running tells selects between values: both branches are computed, and every iteration up to a known M, after
 * the last of which values stay as they are. Of shapes that differ the result has the one that is taken (ops/choose.ts); ranks must not.
 */
import { ModelError } from '../core/errors.ts';
import { dimsEqual, printShape, type Shape } from '../core/shape.ts';
import { fromNumbers, scalarTensor } from '../core/tensor.ts';
import { nodeLabel } from '../graph/ir.ts';
import { CHOOSE_DOMAIN } from '../ops/choose.ts';
import type { SourceNode } from './flatten.ts';
import { LOOP } from './live.ts';
import type { GraphProto } from './onnx_pb.ts';
import type { Resolve, Resolver } from './resolve.ts';
import { resolveScan } from './scan.ts';
import { concat } from './sequences.ts';

export const CONTROL_FLOW: Readonly<Record<string, Resolve>> = {
  If: resolveIf,
  Loop: resolveLoop,
  Scan: resolveScan,
};

function resolveIf(node: SourceNode, to: Resolver): void {
  const branch = (attr: string): readonly string[] =>
    to.addBlock(bodyOf(node, attr), [], `${node.loc.join('+')}/${attr}`);
  if (isAbsent(node, 0)) throw new ModelError('model-invalid', `${nodeLabel(node)}: its condition is missing`);
  const taken = knownOrUndefined(node.inputs[0], to);
  if (taken !== undefined) {
    nameResults(node, branch(taken ? 'then_branch' : 'else_branch'), to);
    return;
  }
  const condition = scalarOf(node.inputs[0], to);
  const [yes, no] = [branch('then_branch'), branch('else_branch')];
  for (const [i, name] of node.outputs.entries()) {
    if (name !== '') choose(node, condition, [yes[i], no[i]], name, to);
  }
}

/** Adds `name`: the first value where the condition holds, else the second. Throws where their ranks differ. */
function choose(
  node: SourceNode,
  condition: string,
  [yes, no]: readonly [string, string],
  name: string,
  to: Resolver,
): string {
  const [a, b] = [to.shape(yes), to.shape(no)];
  if (to.sequence(yes) || to.sequence(no) || (a && b && a.length !== b.length)) {
    throw onlyRunningTells(node, 'condition', node.inputs[node.op === 'If' ? 0 : 1], [a, b]);
  }
  const open = a && b ? a.flatMap((dim, d) => (dimsEqual(dim, b[d]) ? [] : [d])) : [];
  return open.length === 0
    ? to.node('Where', [condition, yes, no], name)
    : to.node(`${CHOOSE_DOMAIN}.Choose`, [condition, yes, no], name, { open });
}

/** A condition may be a tensor of one element. */
function scalarOf(condition: string, to: Resolver): string {
  if (to.shape(condition)?.length === 0) return condition;
  const scalar = to.constant(fromNumbers('i64', [0], []), `${condition}/scalar`);
  return to.node('Reshape', [condition, scalar], to.unused(`${condition}/scalar`));
}

/** Iterations that are written out where only running tells which is the last. */
const MOST_CONDITIONAL = 1000;

function resolveLoop(node: SourceNode, to: Resolver): void {
  const body = bodyOf(node, 'body');
  const label = node.loc.join('+');
  // The carried values are as many as the body takes: trailing absent inputs are not listed.
  const carriedCount = body.input.length - LOOP.bodyInputs;
  const trips = isAbsent(node, 0) ? Number.POSITIVE_INFINITY : knownNumber(node, 0, 'number of iterations', to);
  // Without a condition to start with, the body's is not looked at either.
  const isConditional = !isAbsent(node, 1);
  /** Whether the next iteration runs, where only running tells. */
  let running: string | undefined;
  let goesOn = true;
  const goOnIf = (condition: string, what: string): void => {
    const value = knownOrUndefined(condition, to);
    if (value !== undefined) goesOn = value !== 0;
    else if (trips > MOST_CONDITIONAL) throw onlyRunningTells(node, what, condition);
    else {
      const scalar = scalarOf(condition, to);
      running = running === undefined ? scalar : to.node('And', [running, scalar], to.unused(`${label}/running`));
    }
  };
  if (isConditional) goOnIf(node.inputs[1], 'condition');
  let carried = Array.from({ length: carriedCount }, (_, k) => node.inputs[LOOP.inputs + k] ?? '');
  const scans: string[][] = [];
  for (let i = 0; i < trips && goesOn; i++) {
    const iteration = to.constant(scalarTensor('i64', i), `${label}/${i}/i`);
    const condition = to.constant(scalarTensor('bool', 1), `${label}/${i}/cond`);
    const results = to.addBlock(body, [iteration, condition, ...carried], `${label}/${i}`);
    const before = carried;
    const next = results.slice(LOOP.bodyOutputs, LOOP.bodyOutputs + carriedCount);
    const runs = running;
    carried =
      runs === undefined
        ? next
        : next.map((value, k) =>
            value === '' ? '' : choose(node, runs, [value, before[k]], to.unused(`${label}/${i}/${k}`), to),
          );
    scans.push(results.slice(LOOP.bodyOutputs + carriedCount));
    if (isConditional && i + 1 < trips) goOnIf(results[0], 'condition after an iteration');
  }
  nameResults(node, carried, to);
  for (const [k, name] of node.outputs.slice(carriedCount).entries()) {
    const values = scans.map((row) => row[k] ?? '');
    if (name === '') continue;
    if (running !== undefined) throw onlyRunningTells(node, 'number of iterations', node.inputs[1]);
    concat(node, values, name, 0, true, to);
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
  const number = knownOrUndefined(value, to);
  if (number === undefined) throw onlyRunningTells(node, what, value);
  return number;
}

function knownOrUndefined(value: string, to: Resolver): number | undefined {
  const tensor = to.known(value);
  return tensor?.data.length === 1 ? Number(tensor.data[0]) : undefined;
}

/** `shapes` are those of two values of which running would choose one. */
function onlyRunningTells(
  node: SourceNode,
  what: string,
  value: string,
  shapes: readonly (Shape | undefined)[] = [],
): ModelError {
  const [yes, no] = shapes.map((shape) => (shape ? printShape(shape) : 'a sequence'));
  const why = yes === undefined ? '' : `, and what it chooses from differs in shape: ${yes} and ${no}`;
  return new ModelError(
    'onnx-unsupported',
    `${nodeLabel(node)}: its ${what} "${value}" is only known when the model runs${why}`,
    { hint: 'export the model with fixed shapes, or without control flow' },
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
