/**
 * What is in an engine, as plain data for `hotrod inspect --json` and as a table for people: a layer a step, in the order they run,
 * with the ONNX nodes it came from, its kernel, tactic, operands and cost.
 */
import { DTYPES, type DType } from '../core/dtype.ts';
import { elements, printDim, printShape, type StaticShape } from '../core/shape.ts';
import type { Binding, Engine, Profile, Step, TargetName } from './engine.ts';

export interface EngineInspection {
  readonly kind: 'engine';
  readonly name: string;
  readonly target: TargetName;
  readonly machine: readonly string[];
  readonly precision: string;
  readonly builtBy: string;
  readonly inputs: readonly InspectedBinding[];
  readonly outputs: readonly InspectedBinding[];
  /** Shapes that inputs may have, where sizes are open; shapes elsewhere are then the largest. */
  readonly profiles?: readonly Profile[];
  /** Sizes that the data decide, and what each cannot exceed: a number, or a formula over sizes of the inputs. */
  readonly dataSizes?: readonly { readonly name: string; readonly atMost: string }[];
  readonly layers: readonly InspectedLayer[];
  /** Number of elements before packing. */
  readonly parameters: number;
  readonly weightsBytes: number;
  readonly arenaBytes: number;
  readonly kernels: number;
  readonly code: readonly { readonly name: string; readonly bytes: number }[];
  readonly flops: number;
}

export interface InspectedBinding {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: StaticShape;
  /** Where dims are open: the formula of each, a number where it is not. */
  readonly dims?: readonly string[];
  readonly bytes: number;
}

export interface InspectedLayer {
  /** The ONNX nodes, joined by ` + `. */
  readonly name: string;
  readonly loc: readonly string[];
  readonly kernel: string;
  readonly form: string;
  /** `generated`, or a template with its parameters: `panels(m=3 n=16)`. */
  readonly tactic: string;
  readonly params: Readonly<Record<string, number>>;
  readonly predictedNs: number;
  readonly operands: readonly InspectedOperand[];
  readonly flops: number;
  readonly bytes: number;
  readonly tiles: number;
  readonly threads: number;
  readonly barrier: boolean;
}

export interface InspectedOperand {
  readonly value: string;
  readonly role: 'in' | 'out';
  readonly dtype: DType;
  /** Flat where the engine does not say. */
  readonly shape: StaticShape;
  readonly space: 'arena' | 'weights';
  readonly byteOffset: number;
  readonly bytes: number;
}

export function inspectEngine(engine: Engine): EngineInspection {
  const layers = engine.steps.map((step) => inspectStep(engine, step));
  const { data = [] } = engine.sizes ?? {};
  return {
    kind: 'engine',
    name: engine.name,
    target: engine.target,
    machine: engine.machine,
    precision: engine.precision,
    builtBy: engine.builtBy,
    inputs: engine.inputs.map((binding) => inspectBinding(engine, binding)),
    outputs: engine.outputs.map((binding) => inspectBinding(engine, binding)),
    ...(engine.profiles && { profiles: engine.profiles }),
    ...(data.length > 0 && { dataSizes: data.map(({ name, atMost }) => ({ name, atMost: printDim(atMost) })) }),
    layers,
    parameters: parameters(engine),
    weightsBytes: engine.weightBytes.length,
    arenaBytes: engine.arenaBytes,
    kernels: engine.kernels.length,
    code: engine.code.map(({ name, bytes }) => ({ name, bytes: bytes.length })),
    flops: layers.reduce((sum, layer) => sum + layer.flops, 0),
  };
}

function inspectBinding({ sizes }: Engine, { name, dtype, shape, words, buffer }: Binding): InspectedBinding {
  const dims = shape.map((size, d) => {
    const word = words?.[d] ?? null;
    return printDim(word === null ? size : (sizes?.formulas[word] ?? size));
  });
  return { name, dtype, shape, ...(words && { dims }), bytes: buffer.bytes };
}

function inspectStep(engine: Engine, step: Step): InspectedLayer {
  const kernel = engine.kernels[step.kernel];
  const { template, params, predictedNs } = step.tactic;
  const settings = Object.entries(params).map(([name, value]) => `${name}=${value}`);
  return {
    name: step.loc.join(' + '),
    loc: step.loc,
    kernel: kernel.name,
    form: kernel.form.kind,
    tactic: settings.length === 0 ? template : `${template}(${settings.join(' ')})`,
    params,
    predictedNs,
    operands: kernel.buffers.map(({ dtype, role, elements }, i) => {
      const { space, byteOffset } = step.buffers[i];
      const shape = step.shapes?.[i] ?? [elements];
      return { value: step.values[i], role, dtype, shape, space, byteOffset, bytes: elements * DTYPES[dtype].bytes };
    }),
    flops: step.flops,
    bytes: step.bytesMoved,
    tiles: step.tiles,
    threads: step.maxThreads,
    barrier: step.barrier,
  };
}

/** A constant that lies in the weights in two arrangements counts once. */
function parameters(engine: Engine): number {
  const sizes = new Map(engine.weights.map((w) => [w.name, elements(w.shape)]));
  return [...sizes.values()].reduce((sum, n) => sum + n, 0);
}

/** The inspection as text: a head, then a line a layer. */
export function inspectionText(report: EngineInspection): string {
  const head: readonly (readonly [string, string])[] = [
    ['engine', `${report.name}, built by Hotrod ${report.builtBy}`],
    ['target', [report.target, ...report.machine].join(' ')],
    ['precision', report.precision],
    ['inputs', report.inputs.map(bindingText).join(', ')],
    ['outputs', report.outputs.map(bindingText).join(', ')],
    ...(report.profiles ?? []).map((profile): readonly [string, string] => ['profile', profileText(profile)]),
    ...(report.dataSizes ?? []).map(({ name, atMost }): readonly [string, string] => [
      'by data',
      `${name}, at most ${atMost}`,
    ]),
    ['weights', `${count(report.parameters)} numbers, ${count(report.weightsBytes)} bytes`],
    ['arena', `${count(report.arenaBytes)} bytes`],
    ['kernels', `${report.kernels} in ${report.layers.length} layers, ${count(report.flops)} operations`],
    ['code', report.code.map((c) => `${c.name} ${count(c.bytes)} bytes`).join(', ') || 'none'],
  ];
  const rows = report.layers.map((layer, i) => [
    String(i),
    layer.form,
    layer.operands
      .filter((o) => o.role === 'out')
      .map((o) => o.dtype + printShape(o.shape))
      .join(' '),
    layer.tactic,
    count(layer.flops),
    count(layer.bytes),
    String(layer.threads),
    layer.name,
  ]);
  const titles = ['#', 'form', 'output', 'tactic', 'operations', 'bytes', 'threads', 'nodes'];
  return [...alignColumns(head), '', ...alignColumns([titles, ...rows])].join('\n');
}

const profileText = ({ inputs, step }: Profile): string =>
  inputs
    .map(({ name, min, opt, max }) => `${name} ${printShape(min)} to ${printShape(max)}, usually ${printShape(opt)}`)
    .join('; ') + (step > 1 ? `; in steps of ${step}` : '');
const bindingText = (b: InspectedBinding): string =>
  `${b.name} ${b.dtype}${b.dims ? `[${b.dims.join(',')}]` : printShape(b.shape)}`;
/** `12,345,678`: exact, since sizes are compared. */
const count = (n: number): string => Math.round(n).toLocaleString('en-US');

function alignColumns(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0].map((_, c) => Math.max(...rows.map((row) => row[c].length)));
  return rows.map((row) =>
    row
      .map((cell, c) => (/^[\d,]+$/.test(cell) ? cell.padStart(widths[c]) : cell.padEnd(widths[c])))
      .join('  ')
      .trimEnd(),
  );
}
