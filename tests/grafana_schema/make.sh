#!/usr/bin/env bash
# Makes schema.json beside this file from the types of the npm package @grafana/schema: that of a dashboard, and those
# of the options and fields of each kind of panel used here. Needs node and npm; the tests do not.
# Usage: tests/grafana_schema/make.sh VERSION    (of Grafana, as 11.6.0)
set -euo pipefail

[ $# = 1 ] || { sed -n 's/^# Usage: /usage: /p' "$0" >&2; exit 2; }
version=$1
out=$(realpath "$(dirname "$0")")/schema.json
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund "@grafana/schema@$version" typescript@5.5.4 ts-json-schema-generator@2.3.0
raw=node_modules/@grafana/schema/dist/esm/raw

# $1: file of types; $2: the type; $3: where its schema goes.
schema() {
    mkdir -p "$(dirname "$3")"
    npx ts-json-schema-generator --path "$1" --type "$2" --no-type-check -o "$3"
}
schema $raw/dashboard/x/dashboard_types.gen.d.ts Dashboard dashboard.json
for panel in bargauge:BarGauge gauge:Gauge stat:Stat table:Table timeseries:TimeSeries; do
    types=$raw/composable/${panel%:*}/panelcfg/x/${panel#*:}PanelCfg_types.gen.d.ts
    schema "$types" Options "panels/${panel%:*}/options.json"
    if grep -q "FieldConfig\b" "$types"; then
        schema "$types" FieldConfig "panels/${panel%:*}/fieldConfig.json"
    fi
done
# shellcheck disable=SC2016  # JavaScript's, not the shell's
node -e '
const fs = require("fs");
const isProse = (key, value) => key === "description" && typeof value === "string"; // not a property of that name
const read = path => JSON.parse(fs.readFileSync(path), (key, value) => isProse(key, value) ? undefined : value);
const panels = {};
for (const type of fs.readdirSync("panels").sort()) {
    panels[type] = {};
    for (const file of fs.readdirSync(`panels/${type}`).sort())
        panels[type][file.replace(".json", "")] = read(`panels/${type}/${file}`);
}
const all = {version: process.argv[1], dashboard: read("dashboard.json"), panels};
fs.writeFileSync(process.argv[2], JSON.stringify(all, null, 1) + "\n");
' "$version" "$out"
