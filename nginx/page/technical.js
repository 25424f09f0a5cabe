// Whether shards and milliseconds are shown: a button, remembered in the browser where there is storage.

const KEY = "keymiss.technical";

function remembered() {
  try {
    return localStorage.getItem(KEY) === "yes";
  } catch {
    return false;
  }
}

function remember(on) {
  try {
    localStorage.setItem(KEY, on ? "yes" : "no");
  } catch {
    // no storage: it holds as long as the page
  }
}

/** Makes `button` show and hide them. */
export function technicalToggle(button) {
  const set = (on) => {
    button.setAttribute("aria-pressed", String(on));
    document.body.classList.toggle("technical", on);
  };
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    set(on);
    remember(on);
  });
  set(remembered());
}
