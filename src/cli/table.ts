/** Text for people: columns, numbers with three digits, bytes with units. */

/** Rows with columns padded to equal width; columns whose cells below the head are all numbers are set to the right. */
export function textTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, c) => Math.max(title.length, ...rows.map((row) => row[c].length)));
  const numeric = head.map((_, c) =>
    rows.every((row) => /^[-+]?[\d.]+(e[-+]?\d+)?( ?(%|ms|x|[KMG]i?B|B))?$|^-?$/.test(row[c])),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, c) => (numeric[c] ? cell.padStart(widths[c]) : cell.padEnd(widths[c])))
      .join('  ')
      .trimEnd();
  return [line(head), ...rows.map(line)].join('\n');
}

/** Three significant digits without an exponent where that is readable: `0.0123`, `4.56`, `789`, `1.2e-7`. */
export function formatNumber(x: number): string {
  const size = Math.abs(x);
  if (!Number.isFinite(x) || x === 0) return String(x);
  if (size < 1e-3 || size >= 1e7) return x.toExponential(1);
  return size >= 100 ? x.toFixed(0) : x.toPrecision(3);
}

export const formatMs = (ms: number): string => `${formatNumber(ms)} ms`;

export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${power === 0 ? bytes : (bytes / 1024 ** power).toFixed(1)} ${units[power]}`;
}

/** `f32[1,3,224,224]`. */
export const formatType = (type: { readonly dtype: string; readonly shape: readonly unknown[] }): string =>
  `${type.dtype}[${type.shape.join(',')}]`;

export const formatThreads = (threads: number): string => `${threads} ${threads === 1 ? 'thread' : 'threads'}`;
