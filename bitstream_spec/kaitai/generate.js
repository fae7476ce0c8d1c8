// Writes nvc.py beside this file from ../nvc.ksy:
//   npm install kaitai-struct-compiler js-yaml && node bitstream_spec/kaitai/generate.js
// With a path as argument, writes into that directory instead.
const fs = require("fs");
const path = require("path");
const { createRequire } = require("module");

// Packages may lie beside the caller rather than beside this file.
const find = createRequire(path.join(process.cwd(), "x.js"));
const compiler = find("kaitai-struct-compiler");
const yaml = find("js-yaml");

const source = yaml.load(fs.readFileSync(path.join(__dirname, "..", "nvc.ksy"), "utf8"));
const target = process.argv[2] || __dirname;
compiler.compile("python", source, null, false).then(
  (files) => {
    for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(target, name), "# ruff: noqa\n" + text);
  },
  (error) => {
    console.error(String(error));
    process.exit(1);
  },
);
