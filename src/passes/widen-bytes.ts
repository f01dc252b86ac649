/**
 * Casts the bytes that products are summed of to i32, for targets that multiply words only.
 */
import type { Graph } from '../graph/ir.ts';
import { rewriteNodes } from '../graph/rewrite-nodes.ts';
import { BYTES } from '../ops/quantization.ts';
import type { PassContext } from './pass.ts';

export function widenBytes(graph: Graph, { ops, widensBytes }: PassContext): Graph {
  if (!widensBytes) return graph;
  return rewriteNodes(graph, ops, (node, b) => {
    const [x, y, ...others] = node.inputs;
    if (!ops.get(node.op)?.sumBytes || ![x, y].every((name) => BYTES.includes(b.type(name).dtype))) return undefined;
    const [wideX, wideY] = [x, y].map((name) => b.node('Cast', [name], { attrs: { to: 'i32' }, loc: node.loc })[0]);
    return b.node(node.op, [wideX, wideY, ...others], { attrs: node.attrs, loc: node.loc });
  });
}
