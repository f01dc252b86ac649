/**
 * Checks that a JSON value from a file has the shape that the code expects, and gives it its type: one Check a kind of value, composed
 * like the type they stand for. A value that does not fit throws ModelError `engine-parse` with its path (`steps[3].tiles`).
 */
import { ModelError } from '../core/errors.ts';

export type Check<T> = (value: unknown, path: string) => T;
export type Checked<C> = C extends Check<infer T> ? T : never;

const fail = (path: string, expected: string, value: unknown): never => {
  const found = JSON.stringify(value)?.slice(0, 40) ?? 'nothing';
  throw new ModelError('engine-parse', `the engine's manifest is wrong: ${path} is ${found}, expected ${expected}`, {
    hint: 'build the engine again',
  });
};

export const text: Check<string> = (value, path) => (typeof value === 'string' ? value : fail(path, 'text', value));
export const truth: Check<boolean> = (value, path) =>
  typeof value === 'boolean' ? value : fail(path, 'true or false', value);
export const number: Check<number> = (value, path) =>
  typeof value === 'number' && Number.isFinite(value) ? value : fail(path, 'a number', value);

/** An integer in [least, most]. */
export const integer =
  (least: number, most = Number.MAX_SAFE_INTEGER): Check<number> =>
  (value, path) =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most
      ? (value as number)
      : fail(path, `an integer from ${least} to ${most}`, value);

export const oneOf =
  <T extends string>(...values: readonly T[]): Check<T> =>
  (value, path) =>
    values.includes(value as T) ? (value as T) : fail(path, `one of ${values.join(', ')}`, value);

export const list =
  <T>(item: Check<T>, most = 1 << 20): Check<readonly T[]> =>
  (value, path) => {
    if (!Array.isArray(value) || value.length > most) return fail(path, 'a list', value);
    return value.map((v, i) => item(v, `${path}[${i}]`));
  };

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Any keys, values of one kind. */
export const table =
  <T>(item: Check<T>): Check<Readonly<Record<string, T>>> =>
  (value, path) =>
    isObject(value)
      ? Object.fromEntries(Object.entries(value).map(([key, v]) => [key, item(v, `${path}.${key}`)]))
      : fail(path, 'an object', value);

/** Exactly these keys. */
export const record =
  <S extends Readonly<Record<string, Check<unknown>>>>(shape: S): Check<{ readonly [K in keyof S]: Checked<S[K]> }> =>
  (value, path) => {
    if (!isObject(value)) return fail(path, 'an object', value);
    const extra = Object.keys(value).find((key) => !Object.hasOwn(shape, key));
    if (extra !== undefined) return fail(`${path}.${extra}`, 'no such field', value[extra]);
    const entries = Object.entries(shape).map(([key, check]) => [
      key,
      check(value[key], path === '' ? key : `${path}.${key}`),
    ]);
    return Object.fromEntries(entries) as { readonly [K in keyof S]: Checked<S[K]> };
  };

/** A closed union: the check that the field `kind` names. */
export const byKind =
  <S extends Readonly<Record<string, Check<unknown>>>>(checks: S): Check<Checked<S[keyof S]>> =>
  (value, path) => {
    const kind = isObject(value) ? value.kind : undefined;
    if (typeof kind !== 'string' || !Object.hasOwn(checks, kind)) {
      return fail(`${path}.kind`, `one of ${Object.keys(checks).join(', ')}`, kind);
    }
    return checks[kind](value, path) as Checked<S[keyof S]>;
  };

/** The value, or null in the file where it is absent. */
export const nullable =
  <T>(check: Check<T>): Check<T | undefined> =>
  (value, path) =>
    value === null ? undefined : check(value, path);

/** As nullable; files of before the field was there lack it. */
export const optional =
  <T>(check: Check<T>): Check<T | undefined> =>
  (value, path) =>
    value === undefined || value === null ? undefined : check(value, path);
