// As much of Apple's ImageIO and CoreGraphics as the sample app names, with the signatures of Apple's documentation. A file is its
// width, its height and its channels (1 grey, 3 RGB), a byte each, then its pixels.

import Foundation

// Linux has no bridging, so that `as CFData` needs the same type under another name.
public typealias CFString = String
public typealias CFData = Data
public typealias CFDictionary = [CFString: Bool]

public let kCGImageSourceCreateThumbnailFromImageAlways: CFString = "kCGImageSourceCreateThumbnailFromImageAlways"
public let kCGImageSourceCreateThumbnailWithTransform: CFString = "kCGImageSourceCreateThumbnailWithTransform"

public enum CGColorSpaceModel: Int32 { case unknown = -1, monochrome, rgb, cmyk, lab, deviceN, indexed, pattern }

public final class CGColorSpace {
    public let model: CGColorSpaceModel
    init(_ model: CGColorSpaceModel) { self.model = model }
}

public func CGColorSpaceCreateDeviceRGB() -> CGColorSpace { CGColorSpace(.rgb) }

public enum CGImageAlphaInfo: UInt32 {
    case none, premultipliedLast, premultipliedFirst, last, first, noneSkipLast, noneSkipFirst, alphaOnly
}

public final class CGImage {
    public let width: Int
    public let height: Int
    public let colorSpace: CGColorSpace?
    let bytes: [UInt8]

    init?(_ file: Data) {
        let head = file.prefix(3).map(Int.init)
        guard head.count == 3, [1, 3].contains(head[2]), file.count == 3 + head.reduce(1, *) else { return nil }
        (width, height, colorSpace) = (head[0], head[1], CGColorSpace(head[2] == 1 ? .monochrome : .rgb))
        bytes = Array(file.dropFirst(3))
    }
}

public final class CGImageSource {
    let file: Data
    init(_ file: Data) { self.file = file }
}

public func CGImageSourceCreateWithData(_ data: CFData, _ options: CFDictionary?) -> CGImageSource? { CGImageSource(data) }

public func CGImageSourceCreateThumbnailAtIndex(_ source: CGImageSource, _ index: Int, _ options: CFDictionary?) -> CGImage? {
    CGImage(source.file)
}

public final class CGContext {
    let data: UnsafeMutableRawPointer
    let bytesPerRow: Int
    let step: Int

    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int, space: CGColorSpace,
        bitmapInfo: UInt32
    ) {
        let grey = space.model == .monochrome && bitmapInfo == CGImageAlphaInfo.none.rawValue
        let colour = space.model == .rgb && bitmapInfo == CGImageAlphaInfo.noneSkipLast.rawValue
        step = grey ? 1 : 4
        guard let data, grey || colour, bitsPerComponent == 8, bytesPerRow >= width * step else { return nil }
        (self.data, self.bytesPerRow) = (data, bytesPerRow)
    }

    public func draw(_ image: CGImage, in rect: CGRect, byTiling: Bool = false) {
        precondition(rect == CGRect(x: 0, y: 0, width: image.width, height: image.height), "this stub doesn't scale")
        let channels = image.colorSpace?.model == .monochrome ? 1 : 3
        precondition(channels == min(step, 3), "this stub doesn't convert colours")
        for at in 0..<image.bytes.count {
            let (pixel, channel) = (at / channels, at % channels)
            let place = pixel / image.width * bytesPerRow + pixel % image.width * step + channel
            data.storeBytes(of: image.bytes[at], toByteOffset: place, as: UInt8.self)
        }
    }
}
