"""The files that are served. Some change all the time; the clients know what each may hold."""

SMALL_FILES = 500
SMALL_BYTES_MAX = 24 * 1024
LARGE_BYTES = 4 * 1024 * 1024


class SiteTree:
    def __init__(self, root, chance):
        self.root, self.chance = root, chance
        root.mkdir()
        self.large = chance.randbytes(LARGE_BYTES)
        (root / "large.bin").write_bytes(self.large)
        for number in range(SMALL_FILES):
            self.write(number)

    def path(self, number):
        return f"/file-{number:03}.txt"

    def write(self, number):
        """Makes a file, or puts another in its place: its number again and again, whose length varies."""
        line = f"{number:03}\n".encode()
        draft = self.root / ".draft"
        draft.write_bytes(line * self.chance.randint(1, SMALL_BYTES_MAX // len(line)))
        draft.rename(self.root / self.path(number)[1:])

    def change(self):
        self.write(self.chance.randrange(SMALL_FILES))

    def is_whole(self, number, body):
        line = f"{number:03}\n".encode()
        return body != b"" and body == line * (len(body) // len(line))
