import Foundation

/// Matrices of a safetensors file: eight bytes of header length, a JSON header, then the tensors' bytes, little-endian.
struct SafeTensors {
    let metadata: [String: String]
    private(set) var matrices: [String: [[Float]]] = [:]

    init(_ data: Data) throws {
        let bytes = [UInt8](data)
        guard bytes.count >= 8 else { throw MedgeError("The file is cut off.") }
        let size = UInt64(littleEndian: bytes.withUnsafeBytes { $0.load(as: UInt64.self) })
        guard size <= UInt64(bytes.count - 8) else { throw MedgeError("The file is cut off.") }
        let start = 8 + Int(size)
        guard let header = try JSONSerialization.jsonObject(with: Data(bytes[8..<start])) as? [String: Any] else {
            throw MedgeError("The file's header is damaged.")
        }
        metadata = header["__metadata__"] as? [String: String] ?? [:]
        for (name, entry) in header where name != "__metadata__" {
            guard let facts = entry as? [String: Any], facts["dtype"] as? String == "F32",
                let shape = facts["shape"] as? [Int], shape.count == 2, shape.allSatisfy({ (1...(1 << 20)).contains($0) }),
                let offsets = facts["data_offsets"] as? [Int], offsets.count == 2, offsets[0] >= 0,
                offsets[1] - offsets[0] == 4 * shape[0] * shape[1], offsets[1] <= bytes.count - start
            else { throw MedgeError("The matrix \(name) is damaged.") }
            let (first, width) = (start + offsets[0], shape[1])
            matrices[name] = bytes.withUnsafeBytes { raw in
                (0..<shape[0]).map { row in
                    (0..<width).map { column in
                        let at = first + 4 * (row * width + column)
                        return Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: at, as: UInt32.self)))
                    }
                }
            }
        }
    }
}
