/**
 * What the values of command-line options mean: text to numbers, shapes and names, with an error that names the option.
 */
import { InvalidArgumentError } from 'commander';
import type { Precision, TargetName } from '../engine/engine.ts';

export const TARGET_NAMES: readonly (TargetName | 'auto')[] = ['auto', 'reference', 'wasm', 'x64', 'cuda', 'webgpu'];
export const PRECISION_NAMES: readonly Precision[] = ['fp32', 'tf32', 'fp16', 'bf16', 'int8', 'auto'];

export type Shapes = Readonly<Record<string, readonly number[]>>;

/** `in:1x3x224x224,mask:1x128`; the last colon divides, so names may hold colons. Repeated options add up. */
export function parseShapes(text: string, previous: Shapes = {}): Shapes {
  const shapes: Record<string, readonly number[]> = { ...previous };
  for (const part of text.split(',')) {
    const colon = part.lastIndexOf(':');
    const sizes = part.slice(colon + 1).split('x');
    if (colon < 1 || !sizes.every((size) => /^\d+$/.test(size))) {
      throw new InvalidArgumentError(`"${part}" is not NAME:1x3x224x224.`);
    }
    shapes[part.slice(0, colon)] = sizes.map(Number);
  }
  return shapes;
}

/** One list of shapes a profile: repeated options are further profiles. */
export const parseProfileShapes = (text: string, previous: readonly Shapes[] = []): readonly Shapes[] => [
  ...previous,
  parseShapes(text),
];

/** `NAME=FILE`; the first equals sign divides. Repeated options add up. */
export function parseInputFile(
  text: string,
  previous: ReadonlyMap<string, string> = new Map(),
): ReadonlyMap<string, string> {
  const equals = text.indexOf('=');
  if (equals < 1 || equals === text.length - 1) throw new InvalidArgumentError(`"${text}" is not NAME=FILE.npy.`);
  return new Map([...previous, [text.slice(0, equals), text.slice(equals + 1)]]);
}

/** One sample: NAME=FILE.npy[,NAME=FILE.npy…]; repeated for more. */
export function parseSample(
  text: string,
  previous: readonly ReadonlyMap<string, string>[] = [],
): readonly ReadonlyMap<string, string>[] {
  const files = text
    .split(',')
    .reduce((map, part) => parseInputFile(part, map), new Map() as ReadonlyMap<string, string>);
  return [...previous, files];
}

export function parseThreads(text: string): number | 'auto' {
  return text === 'auto' ? text : parseCount(text);
}

/** An integer ≥ 1. */
export function parseCount(text: string): number {
  if (!/^\d{1,9}$/.test(text) || Number(text) === 0)
    throw new InvalidArgumentError(`"${text}" is not a whole number above 0.`);
  return Number(text);
}

/** An integer ≥ 0. */
export function parseWhole(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError(`"${text}" is not a whole number.`);
  return Number(text);
}

export function parseAmount(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0) || !Number.isFinite(value)) {
    throw new InvalidArgumentError(`"${text}" is not a number of 0 or more.`);
  }
  return value;
}

/** Numbers between commas, `0.485,0.456,0.406`. */
export function parseNumbers(text: string): readonly number[] {
  const values = text.split(',').map(Number);
  if (text.trim() === '' || !values.every(Number.isFinite))
    throw new InvalidArgumentError(`"${text}" is not a list of numbers.`);
  return values;
}

export type Effort = 0 | 1 | 2 | 3 | 4 | 5;
export function parseEffort(text: string): Effort {
  if (!/^[0-5]$/.test(text)) throw new InvalidArgumentError(`"${text}" is not 0 to 5.`);
  return Number(text) as Effort;
}

const BYTE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
};

/** `4MiB`, `512KiB`, `1GB`, or a plain number of bytes. */
export function parseBytes(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)\s*([KMG]?i?B?)$/.exec(text) ?? [];
  const factor = unit === undefined ? undefined : BYTE_UNITS[unit];
  if (factor === undefined) throw new InvalidArgumentError(`"${text}" is not a size such as 4MiB.`);
  return Math.floor(Number(number) * factor);
}

/** `224` is a short side; `224x336` is a width and a height. */
export type SizeOption = { readonly side: number } | { readonly width: number; readonly height: number };
export function parseSize(text: string): SizeOption {
  const [, first, second] = /^([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?$/.exec(text) ?? [];
  if (first === undefined) throw new InvalidArgumentError(`"${text}" is neither SIDE nor WIDTHxHEIGHT.`);
  return second === undefined ? { side: Number(first) } : { width: Number(first), height: Number(second) };
}
