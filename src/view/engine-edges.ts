/**
 * Which step of an engine reads what another wrote: the edges of the engine's graph.
 *
 * Names of values tell it where a step reads what one step wrote. A value that no step wrote under its name (a concatenation that its
 * parts are written into, a view of another value) is followed back through the model's graph; where there is none, or the
 * compiler made the value, the bytes tell: the last writers of what overlaps.
 */
import type { Engine, Step } from '../engine/engine.ts';
import type { Graph } from '../graph/ir.ts';

export interface StepEdge {
  /** A step; or -1 - i for input i of the network. */
  readonly from: number;
  /** A step; or steps + i for output i of the network. */
  readonly to: number;
  /** The value as the reader calls it. */
  readonly value: string;
}

/** A stretch of the arena that a step wrote. */
interface Written {
  readonly by: number;
  readonly from: number;
  readonly to: number;
}

export function stepEdges(engine: Engine, graph?: Graph): readonly StepEdge[] {
  const byName = new Map<string, number>();
  const sources = valueSources(graph);
  let written: Written[] = [];
  const edges: StepEdge[] = [];

  const write = (by: number, value: string, from: number, to: number): void => {
    byName.set(value, by);
    written = written.filter((w) => w.from < from || w.to > to);
    written.push({ by, from, to });
  };
  const writers = (value: string, from: number, to: number): readonly number[] => {
    const named = writersByName(value, byName, sources);
    return named.length > 0 ? named : writersByPlace(written, from, to);
  };
  const read = (to: number, value: string, from: number, end: number): void => {
    for (const writer of writers(value, from, end)) if (writer !== to) edges.push({ from: writer, to, value });
  };

  for (const [i, { name, buffer }] of engine.inputs.entries()) {
    write(-1 - i, name, buffer.byteOffset, buffer.byteOffset + buffer.bytes);
  }
  for (const [i, step] of engine.steps.entries()) {
    const operands = arenaOperands(engine, step);
    for (const { out, value, from, to } of operands) if (!out) read(i, value, from, to);
    for (const { out, value, from, to } of operands) if (out) write(i, value, from, to);
  }
  for (const [i, { name, buffer }] of engine.outputs.entries()) {
    if (buffer.space === 'arena')
      read(engine.steps.length + i, name, buffer.byteOffset, buffer.byteOffset + buffer.bytes);
  }
  return [...new Map(edges.map((edge) => [`${edge.from} ${edge.to} ${edge.value}`, edge])).values()];
}

/** The values that each value of the graph is computed from. */
function valueSources(graph: Graph | undefined): ReadonlyMap<string, readonly string[]> {
  const sources = new Map<string, readonly string[]>();
  for (const { inputs, outputs } of graph?.nodes ?? []) for (const output of outputs) sources.set(output, inputs);
  return sources;
}

/** Who wrote the value, or what it was made of: going back through the graph until steps or inputs are met. */
function writersByName(
  value: string,
  byName: ReadonlyMap<string, number>,
  sources: ReadonlyMap<string, readonly string[]>,
): readonly number[] {
  const seen = new Set([value]);
  const found = new Set<number>();
  for (const name of seen) {
    const writer = byName.get(name);
    if (writer !== undefined) found.add(writer);
    else for (const source of sources.get(name) ?? []) seen.add(source);
  }
  return [...found];
}

/** From the last writer back, each that overlaps, until one wrote all of it. */
function writersByPlace(written: readonly Written[], from: number, to: number): readonly number[] {
  const found: number[] = [];
  for (const w of written.toReversed()) {
    if (w.to <= from || w.from >= to) continue;
    found.push(w.by);
    if (w.from <= from && w.to >= to) break;
  }
  return found;
}

const arenaOperands = (engine: Engine, step: Step) =>
  engine.kernels[step.kernel].buffers.flatMap(({ role }, b) => {
    const { space, byteOffset, bytes } = step.buffers[b];
    return space === 'arena'
      ? [{ out: role === 'out', value: step.values[b], from: byteOffset, to: byteOffset + bytes }]
      : [];
  });
