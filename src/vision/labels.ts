/**
 * Class names: the text of a labels file in, one name for each class index out.
 *
 * Three forms are read: a line a class; a JSON array of names, or of objects that carry a name; a JSON object from index to name.
 */
import { ModelError } from '../core/errors.ts';

/** Fields of an object that can hold its name, in order of preference. */
const NAME_FIELDS = ['label', 'name', 'names', 'char'] as const;

/** Names by class index. `file` is named in errors: ModelError `option-invalid` where the text is JSON but holds no names. */
export function parseLabels(text: string, file: string): readonly string[] {
  const trimmed = text.trim();
  if (!trimmed.startsWith('[') && !trimmed.startsWith('{')) return trimmed === '' ? [] : trimmed.split(/\r?\n/);
  let json: unknown;
  try {
    json = JSON.parse(trimmed);
  } catch {
    return trimmed.split(/\r?\n/); // a plain list whose first name happens to start with a bracket
  }
  return Array.isArray(json) ? json.map((entry, i) => nameOf(entry, i, file)) : namesByIndex(json as object, file);
}

function namesByIndex(json: object, file: string): readonly string[] {
  const names: string[] = [];
  for (const [key, entry] of Object.entries(json)) {
    const index = Number(key);
    if (!Number.isInteger(index) || index < 0 || index > 1e6) throw noName(file, `key "${key}" is no class index`);
    names[index] = nameOf(entry, index, file);
  }
  return Array.from(names, (name, i) => name ?? `class ${i}`);
}

function nameOf(entry: unknown, index: number, file: string): string {
  if (typeof entry === 'string') return entry;
  if (Array.isArray(entry) && entry.length > 0) return nameOf(entry.at(-1), index, file);
  if (typeof entry === 'object' && entry !== null) {
    for (const field of NAME_FIELDS) {
      const value = (entry as Readonly<Record<string, unknown>>)[field];
      if (typeof value === 'string') return value;
      if (Array.isArray(value) && typeof value[0] === 'string') return value[0];
    }
  }
  throw noName(file, `entry ${index} has no name`);
}

const noName = (file: string, what: string): ModelError =>
  new ModelError('option-invalid', `labels ${file}: ${what}`, {
    hint: 'Give a line a class, a JSON array of names, or a JSON object from class index to name.',
  });
