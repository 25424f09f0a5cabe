// The answers' section: one question at a time; a new one ends the one before.

import { answerList, passageList } from "./answers.js";
import { ask } from "./api.js";
import { byId, el, show } from "./dom.js";
import { failure, notice, skeleton } from "./states.js";
import { count, listed, percent, whatIsMissing, whatWasRead } from "./words.js";

const SLOW_MS = 1500;

/** A button that went away leaves the focus to what it was for. */
function focusOn(answer) {
  answer?.setAttribute("tabindex", "-1");
  answer?.focus();
}

const button = (label, onclick) => el("button", { type: "button", class: "more", onclick }, label);

/** The section. say(text) announces. */
export class Answers {
  constructor(say) {
    Object.assign(this, { say, section: byId("answers"), state: byId("answers-state"), list: byId("answers-list") });
    this.running = new AbortController();
    this.shards = []; // those that were asked last time
  }

  /** Asks, and shows what comes: answers, that there are none, or what went wrong. */
  async ask(question, only) {
    this.stop();
    this.running = new AbortController();
    const { signal } = this.running;
    this.#wait("Asking the shards…");
    const slow = setTimeout(() => this.#slow(), SLOW_MS);
    try {
      const reply = await ask(question, only, 0, signal);
      this.shards = reply.coverage.shards.asked;
      this.#show(reply, question, only);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#fail(error, question, only);
    } finally {
      clearTimeout(slow);
      if (this.running.signal === signal) this.section.setAttribute("aria-busy", "false");
    }
  }

  stop() {
    this.running.abort();
    show(this.state);
    show(this.list);
  }

  #wait(text) {
    this.section.setAttribute("aria-busy", "true");
    show(this.state, el("p", { class: "waiting" }, text));
    show(this.list, skeleton());
    this.say(text);
  }

  #slow() {
    const which = this.shards.length ? `one of the shards ${listed(this.shards)}` : "a shard";
    const text = `Still waiting for ${which}: its reader is busy or it does not answer. Whatever is not back within the time limit is left out.`;
    this.state.querySelector(".waiting").textContent = text;
    this.say(text);
  }

  #show(reply, question, only) {
    const missing = whatIsMissing(reply.coverage);
    const again = { label: "Ask again", run: () => this.ask(question, only) };
    const [read, where] = whatWasRead(reply.coverage, reply.took_ms);
    show(this.state,
      el("p", { class: "read" }, read, el("span", { class: "technical" }, where), "."),
      missing && notice(missing, again),
    );
    if (!reply.results.length) {
      const message = reply.message || "Nothing was found that answers this.";
      show(this.list, notice(message), this.#readAll(reply, question, only), passageList(reply.closest, "Closest passages"));
      return this.say(`${message}${reply.closest.length ? ` ${count(reply.closest.length, "closest passage")} below.` : ""}`);
    }
    show(this.list, answerList(reply.results), el("div", { class: "foot" }), passageList(reply.closest, "Passages close to the question"));
    this.#offerMore(reply, question, only);
    const best = reply.results[0];
    return this.say(`${count(reply.results.length, "answer")}. Best: ${best.answer}, ${percent(best.score)}. ${missing}`);
  }

  #offerMore(reply, question, only) {
    const [list, foot] = this.list.children;
    const shown = list.children.length;
    if (reply.results.length && shown < reply.total) {
      show(foot, button(`More answers (${shown} of ${reply.total})`, () => this.#more(question, only)));
    } else {
      show(foot, this.#readAll(reply, question, only));
    }
  }

  #readAll({ coverage }, question, only) {
    const { unread } = coverage.sentences;
    return unread > 0 && button(`Read the ${count(unread, "other sentence")} too`, async () => {
      await this.ask(question, { ...only, exhaustive: true });
      focusOn(this.list.querySelector(".answer, .notice"));
    });
  }

  async #more(question, only) {
    const [list, foot] = this.list.children;
    const before = list.children.length;
    try {
      const reply = await ask(question, only, before, this.running.signal);
      list.append(...answerList(reply.results).children);
      this.#offerMore(reply, question, only);
      this.say(`${count(list.children.length - before, "more answer")}.`);
      focusOn(list.children[before]);
    } catch (error) {
      if (error.name !== "AbortError") show(foot, failure(error, () => this.#more(question, only)));
    }
  }

  #fail(error, question, only) {
    const missing = error.problem?.coverage ? whatIsMissing(error.problem.coverage) : "";
    show(this.state, failure(error, () => this.ask(question, only)), missing && el("p", { class: "read" }, missing));
    show(this.list);
    this.say(`${error.title}. ${error.detail}`);
  }
}
