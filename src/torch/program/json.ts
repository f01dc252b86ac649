/**
 * Fields of a JSON document that may hold anything: each is asked for with the type it must have, and the error says where it has not.
 */
import { ModelError } from '../../core/errors.ts';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

const damaged = (what: string): ModelError => new ModelError('torch-parse', `the exported program is damaged: ${what}`);

/** `where` names the document in errors. */
export function parseJson(bytes: Uint8Array, where: string): Json {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as Json;
  } catch (cause) {
    throw new ModelError('torch-parse', `the exported program is damaged: ${where} is no JSON`, { cause });
  }
}

export function objectOf(value: Json | undefined, where: string): Readonly<Record<string, Json>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, Json>;
  throw damaged(`${where} is no object`);
}
export function listOf(value: Json | undefined, where: string): readonly Json[] {
  if (Array.isArray(value)) return value;
  throw damaged(`${where} is no list`);
}
export function textOf(value: Json | undefined, where: string): string {
  if (typeof value === 'string') return value;
  throw damaged(`${where} is no text`);
}
export function numberOf(value: Json | undefined, where: string): number {
  if (typeof value === 'number') return value;
  // JSON has no such numbers; PyTorch writes their names.
  if (value === 'Infinity') return Number.POSITIVE_INFINITY;
  if (value === '-Infinity') return Number.NEGATIVE_INFINITY;
  if (value === 'NaN') return Number.NaN;
  throw damaged(`${where} is no number`);
}

/** The one member of a union, which is written as an object with one key. */
export function memberOf(value: Json | undefined, where: string): readonly [kind: string, value: Json] {
  const members = Object.entries(objectOf(value, where)).filter(([, member]) => member !== undefined);
  if (members.length !== 1) throw damaged(`${where} is no union of one member`);
  return members[0];
}
