/**
 * Dead code: nodes of which no output is read on the way to a graph output go, and constants that nobody reads with them.
 * The other passes clean up after themselves; this one is for what the model brings.
 */
import type { Graph } from '../graph/ir.ts';
import { removeUnread } from '../graph/rewrite.ts';
import type { PassContext } from './pass.ts';

export const eliminateDeadCode = (graph: Graph, { ops }: PassContext): Graph => removeUnread(graph, ops);
