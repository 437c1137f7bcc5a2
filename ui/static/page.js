// What makes pages livelier. Nothing depends on it.
(() => {
  // Commands that can be copied.
  const show = (root) => root.querySelectorAll("[data-copy]").forEach((button) => { button.hidden = false })
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]")
    if (!button) return
    const code = button.parentElement.querySelector("code")
    try {
      await navigator.clipboard.writeText(code.textContent)
    } catch { // an address without TLS has no clipboard
      const range = document.createRange()
      range.selectNodeContents(code)
      const selection = getSelection()
      selection.removeAllRanges()
      selection.addRange(range)
      document.execCommand("copy")
    }
    button.textContent = "Copied"
    setTimeout(() => { button.textContent = "Copy" }, 1500)
  })
  show(document)
  // Back from a provider: a page that this one leads to is shown the session.
  const follow = document.querySelector("[data-follow]")
  if (follow) location.replace(follow.href)
  // "/" goes to the search field.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) return
    const search = document.querySelector("form.search input:not([type=hidden])")
    if (search) { event.preventDefault(); search.focus() }
  })
})()
