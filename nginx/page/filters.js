// What is searched: years and articles. In the form, in the address, in words.

import { byId } from "./dom.js";

const NAMES = { from: "year-from", to: "year-to", articles: "article-ids" };

const year = (text) => (/^\d{1,4}$/.test(text) && Number(text) ? Number(text) : null);
const ids = (text) => [...new Set(text.split(/[\s,]+/).filter(Boolean))];

/** From the parameters of an address. What cannot be used there is left out. */
export function fromAddress(wanted) {
  return { from: year(wanted.get("from") ?? ""), to: year(wanted.get("to") ?? ""), articles: ids(wanted.get("articles") ?? "") };
}

/** For an address: only what is given. */
export function toAddress({ from, to, articles }) {
  const given = { from, to, articles: articles.join(",") };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value));
}

/** For the API: members of the request. */
export function toRequest({ from, to, articles }) {
  const years = { ...(from && { from }), ...(to && { to }) };
  return { ...(Object.keys(years).length && { years }), ...(articles.length && { articles }) };
}

/** "2019 to 2021, KM0001"; empty without a filter. */
export function inWords({ from, to, articles }) {
  const years = from && to ? (from === to ? `${from}` : `${from} to ${to}`) : from ? `${from} or later` : to ? `${to} or earlier` : "";
  return [years, ...articles].filter(Boolean).join(", ");
}

/** The fields of the form. */
export class FilterForm {
  constructor() {
    this.place = byId("filters");
    this.fields = Object.fromEntries(Object.entries(NAMES).map(([member, id]) => [member, byId(id)]));
    byId("filters-clear").addEventListener("click", () => {
      this.write(fromAddress(new URLSearchParams()));
      this.fields.from.focus();
    });
  }

  /** What is typed in, or a text that says what is wrong with it; and the field. */
  read() {
    const { from, to, articles } = this.fields;
    const given = fromAddress(new URLSearchParams({ from: from.value.trim(), to: to.value.trim(), articles: articles.value }));
    for (const field of [from, to]) {
      if (field.value.trim() && !year(field.value.trim())) return { wrong: "A year is a number from 1 to 9999.", field };
    }
    if (given.from && given.to && given.from > given.to) return { wrong: "The first year is after the last.", field: from };
    return { given };
  }

  write(filters) {
    this.fields.from.value = filters.from ?? "";
    this.fields.to.value = filters.to ?? "";
    this.fields.articles.value = filters.articles.join(", ");
    const said = inWords(filters);
    byId("filters-said").textContent = said ? `Only ${said}` : "Filters";
  }
}
