/**
 * The MODEL argument: an ONNX file with its external data beside it, or a built engine. Opened once, told apart by its first bytes.
 */
import { extname } from 'node:path';
import type { Engine } from '../engine/engine.ts';
import { isEngine } from '../engine/format.ts';
import { engineOfBytes } from './engine-file.ts';
import { readSharedInput, withFile } from './files.ts';

export interface OnnxInput {
  readonly kind: 'onnx';
  readonly file: string;
  readonly bytes: Uint8Array;
}
export interface EngineInput {
  readonly kind: 'engine';
  readonly file: string;
  readonly bytes: Uint8Array;
  readonly engine: Engine;
}
export type ModelInput = OnnxInput | EngineInput;

/** Reads the file. Throws ModelError: `file-missing`, or what parsing an engine throws. An ONNX model is parsed when it is built. */
export async function openModel(file: string): Promise<ModelInput> {
  const bytes = readSharedInput(file, 'model', isEngine);
  if (!isEngine(bytes) && extname(file) !== '.engine') return { kind: 'onnx', file, bytes };
  try {
    return { kind: 'engine', file, bytes, engine: await engineOfBytes(bytes) };
  } catch (error) {
    throw withFile(file, error);
  }
}
