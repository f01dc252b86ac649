/**
 * The MODEL argument: an ONNX file with its external data beside it, a PyTorch file, or a built engine. Opened once, told apart by its
 * first bytes.
 */
import { existsSync } from 'node:fs';
import { extname } from 'node:path';
import type { Engine } from '../engine/engine.ts';
import { isEngine } from '../engine/format.ts';
import { hasTorchName, isTorchFile } from '../torch/is-torch-file.ts';
import { publishedWeights } from '../torch/published.ts';
import { engineOfBytes } from './engine-file.ts';
import { openInputFile, readInputFile, withFile } from './files.ts';
import { processTerminal } from './terminal.ts';

export interface OnnxInput {
  readonly kind: 'onnx';
  readonly file: string;
  readonly bytes: Uint8Array;
}
/** A checkpoint (.pth, .pt, .safetensors) or an exported program (.pt2). */
export interface TorchInput {
  readonly kind: 'torch';
  readonly file: string;
  readonly bytes: Uint8Array;
  /** The architecture of a checkpoint where the user says it. */
  readonly arch?: string;
}
export interface EngineInput {
  readonly kind: 'engine';
  readonly file: string;
  readonly bytes: Uint8Array;
  readonly engine: Engine;
}
/** What an engine can be built from. */
export type SourceInput = OnnxInput | TorchInput;
export type ModelInput = SourceInput | EngineInput;

/**
 * Reads the file, or the weights that torchvision publishes where there is no such file but such a name (`resnet50`). `arch` names the architecture of a checkpoint. Throws ModelError: `file-missing`, or what parsing an engine throws.
 * Other models are parsed when they are built.
 */
export async function openModel(file: string, { arch }: { readonly arch?: string } = {}): Promise<ModelInput> {
  if (!existsSync(file) && publishedWeights(file)) return openPublished(file);
  const bytes = await openInputFile(file, 'model', isEngine);
  if (isTorchFile(bytes) || hasTorchName(file))
    return { kind: 'torch', file, bytes, ...(arch !== undefined && { arch }) };
  if (!isEngine(bytes) && extname(file) !== '.engine') return { kind: 'onnx', file, bytes };
  try {
    return { kind: 'engine', file, bytes, engine: await engineOfBytes(bytes) };
  } catch (error) {
    throw withFile(file, error);
  }
}

async function openPublished(name: string): Promise<TorchInput> {
  const { fetchWeights } = await import('./download.ts');
  const { file, arch } = await fetchWeights(name, processTerminal(true));
  return { kind: 'torch', file, bytes: readInputFile(file, 'model'), arch };
}
