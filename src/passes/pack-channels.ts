/**
 * Convolutions of few channels take several places of their input as channels, where the target multiplies runs of channels. Which
 * operators can, and how, is theirs to say.
 */
import type { Graph } from '../graph/ir.ts';
import { rewriteNodes } from '../graph/rewrite-nodes.ts';
import { nodeWriter } from '../ops/node-writer.ts';
import { withLoc } from './expand-ops.ts';
import type { PassContext } from './pass.ts';

export function packChannels(graph: Graph, { ops, channelRun }: PassContext): Graph {
  if (channelRun === undefined) return graph;
  return rewriteNodes(graph, ops, (node, bare, contextOf) => {
    const pack = ops.get(node.op)?.packChannels;
    const packed = pack?.(nodeWriter(withLoc(bare, node.loc)), contextOf(node), node.inputs, channelRun);
    return packed === undefined ? undefined : [packed];
  });
}
