/**
 * Which versions of ONNX are read and written.
 *
 * Operator sets only ever add versions, so a file of a newer set than NEWEST_OPSET still reads where its operators are known; the
 * caller is warned, since an operator may have changed. Table of releases: https://onnx.ai/onnx/repo-docs/Versioning.html
 */

/**
 * Every form that an operator had since opset 7 is read, and those before where its `since` says so: most of opset 6, which PyTorch's
 * first exporter wrote. Forms that are older still are refused node by node.
 */
export const OLDEST_OPSET = 1;
/** The set whose operator forms graphs hold, and that the writer declares. */
export const NEWEST_OPSET = 28;
/** From here to NEWEST_OPSET operators only gained types and attributes with defaults, so a graph may be declared as any of them. */
export const OLDEST_WRITABLE_OPSET = 21;
/** The file format's version that belongs to OLDEST_WRITABLE_OPSET, the first with metadata_props on nodes. */
export const IR_VERSION = 10;

/** The default operator domain has two spellings. */
export const canonicalDomain = (domain: string): string => (domain === 'ai.onnx' ? '' : domain);
/** Key of an operator in the operator table. */
export const opKey = (domain: string, name: string): string =>
  canonicalDomain(domain) === '' ? name : `${domain}.${name}`;
