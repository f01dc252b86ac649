/** Names of values in a finished graph. */
import type { Graph } from '../graph/ir.ts';

/** The graph with one value under another name, which must be free. */
export function renameValue(graph: Graph, from: string, to: string): Graph {
  const rename = (name: string): string => (name === from ? to : name);
  return {
    ...graph,
    outputs: graph.outputs.map(rename),
    values: new Map([...graph.values].map(([name, type]) => [rename(name), type])),
    nodes: graph.nodes.map((node) => ({
      ...node,
      inputs: node.inputs.map(rename),
      outputs: node.outputs.map(rename),
    })),
  };
}
