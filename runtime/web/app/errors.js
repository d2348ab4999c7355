/** What a user can do something about; its message is shown as it is. */
export class MedgeError extends Error {}
