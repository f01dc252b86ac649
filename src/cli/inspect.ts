/**
 * `hotrod inspect`: what is in a model or an engine: inputs, outputs, operators, layers with shapes, tactics and bytes.
 */
import type { Command } from 'commander';
import { isStatic } from '../core/shape.ts';
import { byteLength, type ValueType } from '../core/tensor.ts';
import { inspectEngine, inspectionText } from '../engine/inspect.ts';
import type { Graph } from '../graph/ir.ts';
import { describeOnnx } from '../onnx/describe.ts';
import { readModelGraph, readTorchModel } from './compile-model.ts';
import { type OnnxInput, openModel, type TorchInput } from './model-input.ts';
import { graphTypes, type StatedType } from './model-types.ts';
import { formatBytes, formatNumber, textTable } from './table.ts';
import { processTerminal, type Terminal } from './terminal.ts';

interface InspectFlags {
  readonly json?: boolean;
  readonly arch?: string;
}

export function addInspectCommand(program: Command): void {
  program
    .command('inspect')
    .argument('<model>', 'an ONNX file, a PyTorch file or an engine')
    .description('show what is in a model or an engine')
    .option('--arch <name>', 'the architecture of a checkpoint; recognised from its weights if not given')
    .option('--json', 'print one JSON object on stdout and nothing else there')
    .addHelpText('after', '\nExample: hotrod inspect resnet18.engine')
    .action(inspectCommand);
}

async function inspectCommand(file: string, flags: InspectFlags): Promise<void> {
  const terminal = processTerminal(flags.json === true);
  const model = await openModel(file, flags);
  if (model.kind === 'engine') {
    const report = inspectEngine(model.engine);
    terminal.result({ ...report, fileBytes: model.bytes.byteLength }, () => inspectionText(report));
    return;
  }
  const report = model.kind === 'onnx' ? inspectOnnx(model, terminal) : inspectTorch(model);
  terminal.result(report, () => graphText(report));
}

function inspectOnnx(model: OnnxInput, terminal: Terminal) {
  const graph = readModelGraph(model, terminal);
  const { irVersion, producer, opsets, externalFiles } = describeOnnx(model.bytes);
  const source = [producer || 'unknown', ...Object.entries(opsets).map(([domain, version]) => `${domain} ${version}`)];
  return { kind: model.kind, producer, irVersion, opsets, externalFiles, source, ...describeGraph(graph) };
}

function inspectTorch(model: TorchInput) {
  const { graph, arch, parameters } = readTorchModel(model);
  return { kind: model.kind, arch, source: ['PyTorch'], ...describeGraph(graph), parameters };
}

function describeGraph(graph: Graph) {
  const operators: Record<string, number> = {};
  for (const { op } of graph.nodes) operators[op] = (operators[op] ?? 0) + 1;
  const named = (names: readonly string[]) =>
    graphTypes(
      graph,
      names.filter((name) => name !== ''),
    );
  const constants = [...graph.constants.values()];
  return {
    name: graph.name,
    inputs: graphTypes(graph, graph.inputs),
    outputs: graphTypes(graph, graph.outputs),
    operators,
    parameters: constants.reduce((sum, tensor) => sum + tensor.data.length, 0),
    weightsBytes: constants.reduce((sum, tensor) => sum + byteLength(tensor), 0),
    layers: graph.nodes.map((node) => ({
      name: node.loc.join('+'),
      op: node.op,
      inputs: named(node.inputs),
      outputs: named(node.outputs),
      bytes: node.outputs.reduce((sum, name) => sum + staticBytes(graph.values.get(name)), 0),
    })),
  };
}

/** Bytes of a value; 0 while its shape is open. */
const staticBytes = (type: ValueType | undefined): number =>
  type !== undefined && isStatic(type.shape) ? byteLength({ dtype: type.dtype, shape: type.shape }) : 0;

function graphText(report: ReturnType<typeof describeGraph> & { readonly source: readonly string[] }): string {
  const list = (types: readonly StatedType[]) => types.map(({ name, text }) => `${name} ${text}`).join(', ');
  const operators = Object.entries(report.operators).sort(([, a], [, b]) => b - a);
  return [
    `model      ${report.name}`,
    `written by ${report.source.join(', ')}`,
    `inputs     ${list(report.inputs)}`,
    `outputs    ${list(report.outputs)}`,
    `operators  ${operators.map(([op, count]) => `${op} ${count}`).join(', ')}`,
    `weights    ${formatNumber(report.parameters)} numbers, ${formatBytes(report.weightsBytes)}`,
    '',
    textTable(
      ['operator', 'output', 'bytes', 'name'],
      report.layers.map((layer) => [
        layer.op,
        layer.outputs.map((o) => o.text).join(' '),
        formatBytes(layer.bytes),
        layer.name,
      ]),
    ),
  ].join('\n');
}
