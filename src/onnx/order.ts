/**
 * Topological order of a model's nodes. ONNX demands it, some exporters do not keep it. Nodes that are in order stay where they are;
 * otherwise each node follows its producers, depth first in the model's order, so the result depends on nothing else.
 */
import { ModelError } from '../core/errors.ts';
import type { SourceNode } from './flatten.ts';

/** Throws ModelError `model-invalid` naming the nodes of a cycle. A value without a producer is no concern here. */
export function inOrder(nodes: readonly SourceNode[]): readonly SourceNode[] {
  const producer = new Map<string, number>();
  for (const [i, node] of nodes.entries()) {
    for (const name of node.outputs) if (name !== '' && !producer.has(name)) producer.set(name, i);
  }
  const before = nodes.map((node) => [...node.inputs, ...node.captures].flatMap((name) => producer.get(name) ?? []));
  if (before.every((list, i) => list.every((p) => p < i))) return nodes;
  return depthFirst(before, nodes).map((i) => nodes[i]);
}

const UNSEEN = 0;
const OPEN = 1;
const DONE = 2;

/** Post-order over "comes before", with a stack of its own: chains may be deeper than the call stack. */
function depthFirst(before: readonly (readonly number[])[], nodes: readonly SourceNode[]): number[] {
  const state = new Uint8Array(before.length);
  const order: number[] = [];
  for (const start of before.keys()) {
    if (state[start] !== UNSEEN) continue;
    const path = [{ node: start, next: 0 }];
    state[start] = OPEN;
    while (path.length > 0) {
      const top = path[path.length - 1];
      if (top.next === before[top.node].length) {
        state[top.node] = DONE;
        order.push(top.node);
        path.pop();
        continue;
      }
      const p = before[top.node][top.next++];
      if (state[p] === OPEN) throw cycle(path.slice(path.findIndex((f) => f.node === p)).map((f) => nodes[f.node]));
      if (state[p] === UNSEEN) {
        state[p] = OPEN;
        path.push({ node: p, next: 0 });
      }
    }
  }
  return order;
}

function cycle(nodes: readonly SourceNode[]): ModelError {
  const names = nodes.map((node) => `${node.op} "${node.loc.join('+')}"`);
  return new ModelError('model-invalid', `the graph has a cycle: ${names.join(' <- ')} <- ${names[0]}`, {
    details: names,
  });
}
