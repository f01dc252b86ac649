/**
 * Other runtimes to measure and compare against, found when asked for: optional peers of the package, never needed to run an engine.
 */

import { basename, extname } from 'node:path';
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import type { DType } from '../core/dtype.ts';
import { Bug, ModelError } from '../core/errors.ts';
import { type Tensor, type TensorType, tensor } from '../core/tensor.ts';
import { bindShapes } from '../graph/bind.ts';
import { evalGraph } from '../graph/eval.ts';
import type { Graph } from '../graph/ir.ts';
import { writeOnnx } from '../onnx/write.ts';
import { OPS } from '../ops/all.ts';
import { readModelGraph, readTorchModel } from './compile-model.ts';
import { type ModelInput, openModel, type SourceInput } from './model-input.ts';
import { ortTensor } from './ort-tensor.ts';
import type { NamedType, Runner } from './runner.ts';
import type { Terminal } from './terminal.ts';
import { openTorch } from './torch-peer.ts';

export const PEER_NAMES = ['onnxruntime', 'torch', 'tensorrt', 'reference'] as const;
export type PeerName = (typeof PEER_NAMES)[number];
export const isPeerName = (text: string): text is PeerName => (PEER_NAMES as readonly string[]).includes(text);

/** What peers need to know beside the model. */
export interface PeerOptions {
  /** PyTorch runs no ONNX files: the module of the same network. Without, one of torchvision with the model's name. */
  readonly torchModule?: string;
  readonly torchWeights?: string;
  readonly precision?: string;
  /** True where the engine runs on a GPU, so that peers that can do too. */
  readonly gpu: boolean;
  readonly outputs: readonly NamedType[];
}

export interface MissingPeer {
  readonly name: PeerName;
  readonly reason: string;
}

/**
 * The peers asked for, on the types and threads of `ours`, and those that cannot run here with the reason.
 * Throws ModelError `option-invalid` where there is no ONNX model for them to open.
 */
export async function openPeers(
  names: readonly PeerName[],
  model: SourceInput | undefined,
  ours: Runner,
  options: PeerOptions,
  terminal: Terminal,
): Promise<{ readonly peers: readonly Runner[]; readonly missing: readonly MissingPeer[] }> {
  if (names.length > 0 && model === undefined) {
    throw new ModelError('option-invalid', `${names.join(', ')} cannot open an engine`, {
      hint: 'Name the model that it was built from with --onnx FILE.',
    });
  }
  const peers: Runner[] = [];
  const missing: MissingPeer[] = [];
  for (const name of names) {
    try {
      peers.push(await openPeer(name, model as SourceInput, ours, options, terminal));
    } catch (error) {
      if (!(error instanceof ModelError) || !mayBeMissing(name, error, options)) throw error;
      missing.push({ name, reason: [error.message, error.hint].filter(Boolean).join('; ') });
    }
  }
  return { peers, missing };
}

/** A peer that is not installed is left out; so is PyTorch where the module was only guessed from the model's name. */
const mayBeMissing = (name: PeerName, error: ModelError, { torchModule }: PeerOptions): boolean =>
  error.code === 'package-missing' || (name === 'torch' && torchModule === undefined);

/** The model that peers open: MODEL itself, or what `--onnx` names where MODEL is an engine. */
export async function modelBehind(model: ModelInput, onnx: string | undefined): Promise<SourceInput | undefined> {
  if (onnx === undefined) return model.kind === 'engine' ? undefined : model;
  const behind = await openModel(onnx);
  if (behind.kind !== 'engine') return behind;
  throw new ModelError('option-invalid', `--onnx ${onnx} is an engine`, {
    hint: 'Give the model that the engine was built from.',
  });
}

async function openPeer(
  name: PeerName,
  model: SourceInput,
  ours: Runner,
  options: PeerOptions,
  terminal: Terminal,
): Promise<Runner> {
  switch (name) {
    case 'onnxruntime':
      return openOnnxRuntime(onnxOf(model, ours.inputs), ours.inputs, ours.threads);
    case 'reference':
      return openReference(bindToTypes(readModelGraph(model, terminal, shapesOf(ours.inputs)), ours.inputs, terminal));
    case 'torch':
      return openTorchPeer(model, ours, options);
    case 'tensorrt':
      throw new ModelError(
        'option-invalid',
        'tensorrt is measured through trtexec, which gives no outputs to compare',
        {
          hint: 'Use it with bench --against.',
        },
      );
    default:
      return name satisfies never;
  }
}

const shapesOf = (inputs: readonly NamedType[]) => Object.fromEntries(inputs.map(({ name, shape }) => [name, shape]));

async function openTorchPeer(model: SourceInput, ours: Runner, options: PeerOptions): Promise<Runner> {
  const { gpu, precision, outputs } = options;
  const { torchModule, torchWeights } = options.torchModule === undefined ? ownModule(model, options) : options;
  const settings = {
    module: torchModule ?? torchvisionModule(model.file),
    ...(torchWeights !== undefined && { weights: torchWeights }),
    threads: ours.threads,
    gpu,
    tf32: precision === 'tf32',
  };
  try {
    return await openTorch(settings, { inputs: ours.inputs, outputs });
  } catch (error) {
    if (!(error instanceof ModelError) || error.code === 'package-missing' || torchModule !== undefined) throw error;
    throw new ModelError(error.code, `PyTorch runs no ONNX files, and ${settings.module} is not this network`, {
      hint: 'Name its module with --torch-module.',
      cause: error,
    });
  }
}

/** What PyTorch itself runs of a PyTorch file: an exported program as it is, a checkpoint in torchvision's module. */
function ownModule(
  model: SourceInput,
  { torchWeights }: PeerOptions,
): Pick<PeerOptions, 'torchModule' | 'torchWeights'> {
  if (model.kind !== 'torch') return { ...(torchWeights !== undefined && { torchWeights }) };
  const { arch } = readTorchModel(model);
  if (arch === undefined) return { torchModule: model.file };
  return { torchModule: `torchvision.models:${arch}`, torchWeights: torchWeights ?? model.file };
}

/** `resnet50.onnx` and `my-resnet50.onnx` may be torchvision's resnet50; whether it is, its outputs' shapes tell. */
function torchvisionModule(file: string): string {
  const [name] = /[a-z][a-z0-9_]*$/.exec(basename(file, extname(file)).toLowerCase()) ?? [''];
  return `torchvision.models:${name}`;
}

/** The graph with the input shapes that the engine has. */
const bindToTypes = (graph: Graph, inputs: readonly NamedType[], terminal: Terminal): Graph =>
  bindShapes(graph, OPS, shapesOf(inputs), terminal.warn);

/** The file of an ONNX model; of a PyTorch file the ONNX model that it is exported as. */
const onnxOf = (model: SourceInput, inputs: readonly NamedType[]): string | Uint8Array =>
  model.kind === 'onnx' ? model.file : writeOnnx(readTorchModel(model, shapesOf(inputs)).graph, { ops: OPS });

const ORT_DTYPES: Readonly<Record<string, DType>> = {
  float32: 'f32',
  float64: 'f64',
  float16: 'f16',
  int64: 'i64',
  uint64: 'u64',
  int32: 'i32',
  uint32: 'u32',
  int16: 'i16',
  uint16: 'u16',
  int8: 'i8',
  uint8: 'u8',
  bool: 'bool',
};
const ORT_NAMES: ReadonlyMap<string, string> = new Map(
  Object.entries(ORT_DTYPES).map(([name, dtype]) => [dtype, name]),
);

/**
 * onnxruntime on the CPU with all its optimisations, on a model's file or bytes. `inputs` are the types to run with: sizes that the model leaves open are theirs.
 * Throws ModelError `package-missing` where onnxruntime-node is not installed, `onnx-unsupported` where it refuses the model.
 */
export async function openOnnxRuntime(
  model: string | Uint8Array,
  inputs: readonly NamedType[],
  threads: number,
): Promise<Runner> {
  const ort = await import('onnxruntime-node').catch((cause) => {
    throw new ModelError('package-missing', 'onnxruntime is not installed here', {
      hint: 'npm i onnxruntime-node',
      cause,
    });
  });
  const session = await openSession(ort.InferenceSession, model, threads);
  let feeds: Record<string, OrtTensor> = {};
  let results: Readonly<Record<string, OrtTensor>> = {};
  return {
    name: 'onnxruntime',
    inputs,
    threads,
    setInputs: (values) => {
      feeds = {};
      for (const [name, value] of values) {
        feeds[name] = ortTensor(ort.Tensor, ORT_NAMES.get(value.dtype) as string, value);
      }
    },
    run: async () => {
      results = await session.run(feeds);
    },
    outputs: () => new Map(session.outputNames.map((name) => [name, fromOrt(name, results[name])])),
    dispose: () => session.release(),
  };
}

async function openSession(
  sessions: typeof InferenceSession,
  model: string | Uint8Array,
  threads: number,
): Promise<InferenceSession> {
  const options = {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
  } as const;
  try {
    return await (typeof model === 'string' ? sessions.create(model, options) : sessions.create(model, options));
  } catch (cause) {
    throw new ModelError(
      'onnx-unsupported',
      `onnxruntime does not open ${typeof model === 'string' ? model : 'the exported model'}: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
}

function fromOrt(name: string, value: OrtTensor): Tensor {
  const dtype = ORT_DTYPES[value.type];
  if (dtype === undefined) throw new Bug('peer-dtype', `output "${name}" of onnxruntime is ${value.type}`);
  const { data } = value;
  // Where the host has Float16Array, onnxruntime answers with it; its bits are what a tensor holds.
  const bits = dtype === 'f16' && !(data instanceof Uint16Array) ? halfBits(data as unknown as ArrayBufferView) : data;
  return tensor(dtype, value.dims, bits as Float32Array);
}

const halfBits = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint16Array =>
  new Uint16Array(buffer as ArrayBuffer, byteOffset, byteLength / 2);

/** The definition itself: graph evaluation node by node in float64, without any pass. What a framework's eager mode is to an engine. */
export function openReference(graph: Graph): Runner {
  let feeds: ReadonlyMap<string, Tensor> = new Map();
  let results: ReadonlyMap<string, Tensor> = new Map();
  return {
    name: 'reference',
    inputs: graph.inputs.map((name) => ({ name, ...(graph.values.get(name) as TensorType) })),
    threads: 1,
    setInputs: (values) => {
      feeds = values;
    },
    run: () => {
      results = evalGraph(graph, OPS, feeds);
    },
    outputs: () => results,
    dispose: () => {},
  };
}
