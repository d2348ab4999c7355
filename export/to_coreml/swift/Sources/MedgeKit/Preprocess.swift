import Foundation

/// An image of RGB bytes, row by row.
public struct RGBImage {
    public let width: Int
    public let height: Int
    public let bytes: [UInt8]

    public init(width: Int, height: Int, bytes: [UInt8]) {
        precondition(bytes.count == width * height * 3, "an RGB image has three bytes a pixel")
        self.width = width
        self.height = height
        self.bytes = bytes
    }
}

/// The preprocessing path that a bundle was made and measured with; the same pixels as medge's Python runtime.
public enum Profile: String {
    case evalTF = "eval-tf"
    case hfBicubic = "hf-bicubic"
    case finetunePIL = "finetune-pil"
    case servingPad = "serving-pad"

    public func resize(_ image: RGBImage, side: Int) -> RGBImage {
        switch self {
        case .evalTF: return resizeTensorFlow(image, side: side)
        case .hfBicubic: return resamplePIL(image, side: side, filter: bicubic, support: 2)
        case .finetunePIL: return resamplePIL(image, side: side, filter: triangle, support: 1)
        case .servingPad: return resamplePIL(padToSquare(image), side: side, filter: bicubic, support: 2)
        }
    }
}

/// `tf.image.resize` cast to bytes: half-pixel centres, no antialiasing, truncated; all in single precision.
func resizeTensorFlow(_ image: RGBImage, side: Int) -> RGBImage {
    func corners(_ size: Int) -> [(low: Int, high: Int, weight: Float)] {
        let scale = Float(size) / Float(side)
        return (0..<side).map { index in
            let position = (Float(index) + 0.5) * scale - 0.5
            let floor = position.rounded(.down)
            return (max(Int(floor), 0), min(Int(floor) + 1, size - 1), position - floor)
        }
    }
    let rows = corners(image.height)
    let columns = corners(image.width)
    var out = [UInt8](repeating: 0, count: side * side * 3)
    func pixel(_ y: Int, _ x: Int, _ channel: Int) -> Float { Float(image.bytes[(y * image.width + x) * 3 + channel]) }
    for (y, row) in rows.enumerated() {
        for (x, column) in columns.enumerated() {
            for channel in 0..<3 {
                let a = pixel(row.low, column.low, channel), b = pixel(row.low, column.high, channel)
                let c = pixel(row.high, column.low, channel), d = pixel(row.high, column.high, channel)
                let upper = a + (b - a) * column.weight
                let lower = c + (d - c) * column.weight
                out[(y * side + x) * 3 + channel] = UInt8(upper + (lower - upper) * row.weight)
            }
        }
    }
    return RGBImage(width: side, height: side, bytes: out)
}

func triangle(_ x: Double) -> Double { abs(x) < 1 ? 1 - abs(x) : 0 }

/// Keys' cubic with a = -0.5, as Pillow's.
func bicubic(_ x: Double) -> Double {
    let x = abs(x)
    if x < 1 { return (1.5 * x - 2.5) * x * x + 1 }
    if x < 2 { return ((-0.5 * x + 2.5) * x - 4) * x + 2 }
    return 0
}

/// Pillow's resampling of bytes: weights in 22 bits of fixed point, first along rows, then along columns.
func resamplePIL(_ image: RGBImage, side: Int, filter: (Double) -> Double, support: Double) -> RGBImage {
    let bits = 22
    func coefficients(_ size: Int) -> [(first: Int, weights: [Int])] {
        let scale = Double(size) / Double(side)
        let stretch = max(scale, 1)
        return (0..<side).map { index in
            let centre = (Double(index) + 0.5) * scale
            let first = max(Int(centre - support * stretch + 0.5), 0)
            let last = min(Int(centre + support * stretch + 0.5), size)
            let raw = (first..<last).map { filter((Double($0) - centre + 0.5) / stretch) }
            let total = raw.reduce(0, +)
            return (first, raw.map { Int(($0 / total * Double(1 << bits)).rounded(.toNearestOrAwayFromZero)) })
        }
    }
    func clipped(_ sum: Int) -> UInt8 { UInt8(min(max((sum + (1 << (bits - 1))) >> bits, 0), 255)) }
    var wide = image.bytes
    if image.width != side {
        let columns = coefficients(image.width)
        wide = [UInt8](repeating: 0, count: image.height * side * 3)
        for y in 0..<image.height {
            for (x, column) in columns.enumerated() {
                for channel in 0..<3 {
                    var sum = 0
                    for (offset, weight) in column.weights.enumerated() {
                        sum += Int(image.bytes[(y * image.width + column.first + offset) * 3 + channel]) * weight
                    }
                    wide[(y * side + x) * 3 + channel] = clipped(sum)
                }
            }
        }
    }
    if image.height == side { return RGBImage(width: side, height: side, bytes: wide) }
    var out = [UInt8](repeating: 0, count: side * side * 3)
    for (y, row) in coefficients(image.height).enumerated() {
        for at in 0..<(side * 3) {
            var sum = 0
            for (offset, weight) in row.weights.enumerated() {
                sum += Int(wide[(row.first + offset) * side * 3 + at]) * weight
            }
            out[y * side * 3 + at] = clipped(sum)
        }
    }
    return RGBImage(width: side, height: side, bytes: out)
}

/// Zeros around the image, so that it becomes a square with the image in its middle.
func padToSquare(_ image: RGBImage) -> RGBImage {
    let size = max(image.width, image.height)
    let top = (size - image.height) / 2, left = (size - image.width) / 2
    var out = [UInt8](repeating: 0, count: size * size * 3)
    for y in 0..<image.height {
        let from = y * image.width * 3, to = ((y + top) * size + left) * 3
        out.replaceSubrange(to..<(to + image.width * 3), with: image.bytes[from..<(from + image.width * 3)])
    }
    return RGBImage(width: size, height: size, bytes: out)
}
